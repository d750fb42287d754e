"""`cvmfs_server import`: storage and keys of another machine become a repository of this one."""

import shutil

import pytest

from tests.format.check import check_repository
from tests.support.publishing import Publisher

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]


def test_a_repository_moves_with_its_storage_and_keys(publisher: Publisher) -> None:
    publisher.create("-z", "-a", "shake128")
    with publisher.transaction("-a", "v1") as tree:
        (tree / "file").write_text("content")
    fqrn, etc, safe = publisher.fqrn, publisher.prefix / "etc" / "cvmfs", publisher.prefix / "safe"
    shutil.copytree(etc / "keys", safe)
    publisher.server("rmfs", "-p", "-f", fqrn)
    for key in (etc / "keys").glob(f"{fqrn}.*"):
        key.unlink()

    def refused(said: str, *words: str, code: int = 1) -> None:
        done = publisher.server("import", "-p", "-o", "root", *words, fqrn, check=False)
        assert (done.returncode, said in done.stderr) == (code, True), done
        assert not (etc / "repositories.d" / fqrn).exists()
        assert list((etc / "keys").glob(f"{fqrn}.*")) == []

    refused("Please provide the location of the repository security keys (-k)")
    refused("using -t implies whitelist recreation", "-k", str(safe), "-t")
    missing = publisher.storage / "data" / "7f"
    aside = missing.rename(publisher.prefix / "aside")
    refused("data/7f missing", "-k", str(safe))
    aside.rename(missing)
    whitelist = publisher.storage / ".cvmfswhitelist"
    before = whitelist.read_bytes()
    whitelist.unlink()
    refused("didn't find", "-k", str(safe))
    whitelist.write_bytes(before)
    manifest = publisher.storage / ".cvmfspublished"
    signed = manifest.read_bytes()
    manifest.write_bytes(signed[:-1] + bytes([signed[-1] ^ 1]))
    # Seen only when it is mounted: everything that was made until then is gone again.
    refused("is not trusted", "-k", str(safe), code=5)
    manifest.write_bytes(signed)

    done = publisher.server("import", "-p", "-o", "root", "-k", str(safe), fqrn)
    assert "Mounting CernVM-FS Storage... (overlayfs) done" in done.stdout
    assert (publisher.union / "file").read_text() == "content"
    assert whitelist.read_bytes() == before
    settings = (etc / "repositories.d" / fqrn / "server.conf").read_text()
    assert "CVMFS_HASH_ALGORITHM=shake128\n" in settings
    assert "CVMFS_GARBAGE_COLLECTION=true\n" in settings
    with publisher.transaction() as tree:
        (tree / "later").touch()
    assert "no problems found" in publisher.server("check", fqrn).stdout
    publisher.server("gc", "-f", fqrn)

    publisher.server("rmfs", "-p", "-f", fqrn)
    for key in (etc / "keys").glob(f"{fqrn}.*"):
        key.unlink()
    publisher.server("import", "-p", "-o", "root", "-k", str(safe), "-r", "-t", fqrn)
    assert (etc / "keys" / f"{fqrn}.key").read_bytes() != (safe / f"{fqrn}.key").read_bytes()
    assert whitelist.read_bytes() != before
    assert (publisher.union / "later").exists()
    with publisher.transaction() as tree:
        (tree / "latest").touch()
    assert "no problems found" in publisher.server("check", fqrn).stdout
    assert check_repository(publisher.storage, [publisher.public_key.read_bytes()], fqrn) == []
