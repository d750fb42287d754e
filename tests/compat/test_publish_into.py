"""`nearfs publish`: a directory or an archive goes into a path of a repository, with no mount and no root."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.format import forge
from tests.support import mounts, processes
from tests.support.publishing import Publisher, publishing
from tests.support.trees import shown
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(240)]

NOBODY = 65534


@pytest.fixture
def builder() -> Iterator[Publisher]:
    """A repository that belongs to nobody, below a directory that every user can look into."""
    with tempfile.TemporaryDirectory(prefix="nearfs-into-") as name:
        os.chmod(name, 0o755)
        with publishing(Path(name) / "host", forge.FQRN) as publisher:
            publisher.create()
            for mount in mounts.beneath(publisher.prefix):
                mounts.unmount_lazily(mount.point)
            # The client of an unmounted lower directory removes its socket in its own time.
            chown: list[str | Path] = ["chown", "-hR", f"{NOBODY}:{NOBODY}", publisher.prefix]
            wait_until(lambda: processes.run(chown, check=False).returncode == 0, 30, "all belongs to nobody")
            yield publisher


def _publish(
    builder: Publisher, *words: str | Path, stdin: Path = Path("/dev/null"), user: int = NOBODY
) -> subprocess.CompletedProcess[str]:
    unprivileged = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all"]
    with stdin.open("rb") as given:
        return subprocess.run(
            [*(unprivileged if user else []), sys.executable, "-P", "-m", "nearfs.cli.main", "publish", *words],
            stdin=given, capture_output=True, text=True, timeout=100, check=False, cwd="/",
            env=processes.marked_environment(builder.environment),
        )  # fmt: skip


def _pen(builder: Publisher) -> forge.Forge:
    """Returns a hand that signs with the repository's keys."""
    keys = builder.public_key.parent
    master, signer = (
        load_pem_private_key((keys / f"{builder.fqrn}.{suffix}").read_bytes(), None) for suffix in ("masterkey", "key")
    )
    assert isinstance(master, rsa.RSAPrivateKey)
    assert isinstance(signer, rsa.RSAPrivateKey)
    certificate = x509.load_pem_x509_certificate((keys / f"{builder.fqrn}.crt").read_bytes())
    return forge.Forge(builder.storage, forge.Keys(master, signer, certificate))


def test_a_build_is_published_by_nobody_in_particular(builder: Publisher) -> None:
    build, where = builder.prefix / "build", f"{builder.fqrn}:/sw/1.0"
    (build / "lib" / "x").mkdir(parents=True)
    (build / "lib" / "x" / "code").write_bytes(os.urandom(50_000))
    (build / "lib" / "old").write_text("old")
    (build / "link").symlink_to("lib")
    processes.run(["chown", "-hR", f"{NOBODY}:{NOBODY}", build])
    plan = _publish(builder, "--dry-run", build, where)
    assert plan.stdout.splitlines() == [
        "[add] /sw", "[add] /sw/1.0", "[add] /sw/1.0/lib", "[add] /sw/1.0/lib/old", "[add] /sw/1.0/lib/x",
        "[add] /sw/1.0/lib/x/code", "[add] /sw/1.0/link",
    ]  # fmt: skip
    done = _publish(builder, "-v", "--tag", "v1", "--message", "first", build, where)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert f"Published revision 2 of {forge.FQRN}: 7 added, 0 changed, 0 removed" in done.stdout
    assert not mounts.beneath(builder.prefix), "nothing was mounted"
    (build / "lib" / "old").unlink()
    (build / "lib" / "new").write_text("new")
    kept = _publish(builder, "--no-delete", "--json", build, where)
    assert json.loads(kept.stdout)["entries_removed"] == 0
    exact = json.loads(_publish(builder, "--json", "--tag", "v2", build, where).stdout)
    assert (exact["entries_removed"], exact["revision"], exact["objects_new"]) == (1, 4, 1)
    again = json.loads(_publish(builder, "--json", build, where).stdout)
    assert [again[f"entries_{what}"] for what in ("added", "changed", "removed")] == [0, 0, 0]

    archive = builder.prefix / "archive.tar"
    processes.run(["tar", "-C", build, "-czf", archive, "lib"])
    added = _publish(builder, "--owner", "7:8", "-", f"{builder.fqrn}:/sw/2.0", stdin=archive)
    assert (added.returncode, "5 added" in added.stdout) == (0, True), added
    # Root mounts what nobody published.
    builder.server("mount", builder.fqrn)
    assert shown(builder.union / "sw/1.0") == shown(build)
    assert {row[1:3] for row in shown(builder.union / "sw/2.0").values()} == {(7, 8)}
    assert builder.tags()["v1"][1:3] != builder.tags()["v2"][1:3]
    builder.server("check", "-i", builder.fqrn)
    # With mounts: nobody leaves them alone, root has them follow.
    (build / "more").write_text("more")
    assert _publish(builder, build, where).returncode == 0
    assert not (builder.union / "sw/1.0/more").exists()
    (build / "most").write_text("most")
    done = _publish(builder, build, where, user=0)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert (builder.union / "sw/1.0/most").exists()


def test_refusals_are_clear_and_change_nothing(builder: Publisher) -> None:
    build, where = builder.prefix / "build", f"{builder.fqrn}:/sw"
    build.mkdir(mode=0o755)
    (build / "file").write_text("x")
    before = (builder.storage / ".cvmfspublished").read_bytes()
    keys = builder.prefix / "etc/cvmfs/keys"
    key, whitelist = keys / f"{builder.fqrn}.key", builder.storage / ".cvmfswhitelist"

    def refused(said: str, source: Path = build, target: str = where, user: int = NOBODY) -> None:
        done = _publish(builder, source, target, user=user)
        assert (done.returncode != 0, said in done.stderr) == (True, True), (said, done)
        assert "Traceback" not in done.stderr
        assert (builder.storage / ".cvmfspublished").read_bytes() == before

    refused("absent does not exist", source=builder.prefix / "absent")
    refused("has to begin with /", target=f"{builder.fqrn}:sw")
    refused("does not exist", target="other.example.org:/sw")
    refused("leads out of the repository", target=f"{builder.fqrn}:/sw/../..")
    refused("new_repository: it is no directory", target=f"{builder.fqrn}:/new_repository/x")
    refused("cannot be written by this user", user=NOBODY - 1)
    os.rename(key, f"{key}.aside")
    refused("is missing: without it no revision")
    shutil.copy(f"{key}.aside", key)
    os.chmod(key, 0o400)
    refused("cannot be read: Permission denied")
    os.rename(f"{key}.aside", key)
    flag = builder.spool / "in_transaction.lock"
    flag.touch()
    refused("has an open transaction")
    flag.unlink()
    with (builder.spool / "is_publishing.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused("Another publish process is active")
    good = whitelist.read_bytes()
    _pen(builder).write_whitelist(days=-1)
    refused("is expired!")
    whitelist.write_bytes(good)
    processes.run(["mount", "--bind", builder.storage, builder.storage])
    processes.run(["mount", "-o", "remount,bind,ro", builder.storage])
    refused("is read-only")
    mounts.unmount_lazily(builder.storage)
    assert _publish(builder, build, where).returncode == 0
