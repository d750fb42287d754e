"""What a site adds to `cvmfs_server`: hooks, variables, and the rarer options of mkfs and publish."""

import sqlite3
import zlib
from pathlib import Path

import pytest

from nearfs import signing
from tests.support.owners import UID, USER, OwnedPublisher, owned
from tests.support.publishing import Publisher

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]

HOOKS = """\
NOTED={noted}
transaction_before_hook() {{ echo "before transaction $1 $CVMFS_USER" >> {noted}; [ ! -e {stop} ] || return 42; }}
transaction_after_hook() {{ touch /dev/null; echo "opened" >> {noted}; }}
publish_before_hook() {{ echo "publishing $SITE" >> {noted}; }}
publish_after_hook() {{ echo "published" >> {noted}; return 7; }}
abort_after_hook() {{ echo "aborted" >> $NOTED; }}
"""


def test_hooks_and_site_variables_surround_a_transaction(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    etc = publisher.prefix / "etc" / "cvmfs"
    noted, stop = tmp_path / "noted", tmp_path / "stop"
    (etc / "server.local").write_text("SITE=here\nCVMFS_PRINT_STATISTICS=true\n")
    (etc / "default.local").write_text("CVMFS_DEFAULT_DOMAIN=" + publisher.fqrn.partition(".")[2] + "\n")
    (etc / "cvmfs_server_hooks.sh").write_text(HOOKS.format(noted=noted, stop=stop))
    stop.touch()
    stopped = publisher.server("transaction", publisher.fqrn, check=False)
    assert (stopped.returncode, stopped.stderr) == (42, "transaction hook failed, not opening a transaction\n")
    assert publisher.server("list").stdout == f"{publisher.fqrn} (stratum0 / local)\n"
    stop.unlink()
    publisher.server("transaction", publisher.fqrn.partition(".")[0])
    (publisher.union / "x").write_text("x")
    # server.conf has a value of its own for the statistics: it wins over the site's.
    quiet = publisher.server("publish", publisher.fqrn, check=False)
    assert (quiet.returncode, "publish.entries_added" in quiet.stdout) == (7, False), quiet
    assert "the command itself was done" in quiet.stderr
    assert quiet.stdout.index("Flushing file system buffers") < quiet.stdout.index("Signing new manifest")
    publisher.server("transaction", publisher.fqrn)
    publisher.server("abort", "-f", publisher.fqrn)
    before = f"before transaction {publisher.fqrn} root"
    lines = noted.read_text().splitlines()
    assert lines == [before, before, "opened", "publishing here", "published", before, "opened", "aborted"]
    unknown = publisher.server("publish", "no*such", check=False)
    assert (unknown.returncode, unknown.stderr) == (1, "The repository no*such does not exist.\n")
    long = publisher.server("info", "a" * 61, check=False)
    assert (long.returncode, "invalid repository name" in long.stderr) == (1, True)


def test_options_of_publish_reach_the_revision(publisher: Publisher) -> None:
    publisher.create()
    publisher.configure({"CVMFS_PRINT_STATISTICS": "true", "CVMFS_SYNCFS_LEVEL": "none"})
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "outside").write_text("fetched elsewhere")
    spaces = publisher.server("publish", "-a", "two words", publisher.fqrn, check=False)
    assert (spaces.returncode, "Spaces are not allowed in tag names" in spaces.stderr) == (1, True)
    with (publisher.union / "outside").open():
        refused = publisher.server("publish", publisher.fqrn, check=False)
        assert (refused.returncode, "WARNING! There are open read-only file descriptors" in refused.stdout) == (1, True)
    done = publisher.server("publish", "-X", "-d", publisher.fqrn).stdout
    assert "publish.entries_added" in done
    assert "Flushing" not in done
    flags = _root_flags(publisher)
    assert flags["outside"] & (0x80 | 0x10000) == 0x80 | 0x10000
    assert flags["new_repository"] & 0x80 == 0
    assert (
        publisher.server("migrate", publisher.fqrn).stdout == f"Repository '{publisher.fqrn}' is already up-to-date.\n"
    )
    publisher.server("alterfs", "-m", "off", publisher.fqrn)
    assert "replication allowed: no" in publisher.server("info", publisher.fqrn).stdout
    on = publisher.server("alterfs", "-m", "on", publisher.fqrn).stdout
    assert on == "Allowing Replication of this Repository... done\n"
    publisher.configure({"CVMFS_CREATOR_VERSION": "140"})
    old = publisher.server("transaction", publisher.fqrn, check=False)
    assert (old.returncode, f"cvmfs_server migrate {publisher.fqrn}" in old.stderr) == (1, True)


def test_what_root_makes_belongs_to_the_owner() -> None:
    with owned("lab.example.org") as publisher:
        _make_as_root(publisher)
        _map_owners(publisher)
        assert publisher.foreign() == []


def _make_as_root(publisher: OwnedPublisher) -> None:
    bad = publisher.root("mkfs", "-p", "-o", USER, "-G", "no such time", publisher.fqrn, check=False)
    assert (bad.returncode, "Auto tags time span cannot be parsed" in bad.stderr) == (1, True)
    words = ("-V", "/grid/example", "-X", "-x", "http://proxy:3128", "-G", "3 days ago")
    said = publisher.root("mkfs", "-p", "-o", USER, *words, publisher.fqrn).stdout
    assert "(repository will be accessible with VOMS credentials /grid/example)... done" in said
    assert "Initial commit" not in said
    configuration = publisher.prefix / "etc" / "cvmfs" / "repositories.d" / publisher.fqrn
    settings = (configuration / "server.conf").read_text()
    assert "CVMFS_EXTERNAL_DATA=true\n" in settings
    assert settings.endswith(
        "CVMFS_VOMS_AUTHZ=/grid/example\nCVMFS_CATALOG_ALT_PATHS=true\nCVMFS_SERVER_PROXY=http://proxy:3128\n"
    )
    assert "CVMFS_HTTP_PROXY=http://proxy:3128\n" in (configuration / "client.conf").read_text()
    publisher.root("transaction", publisher.fqrn)
    publisher.run("sh", "-ec", f"echo x >{publisher.union}/x")
    publisher.root("publish", publisher.fqrn)
    manifest = signing.parse_manifest((publisher.storage / ".cvmfspublished").read_bytes()).fields
    assert manifest.alternative_paths
    link = publisher.storage / f".cvmfsalt-{manifest.root_hash}C"
    assert link.resolve() == _object(publisher, manifest.root_hash).resolve()
    assert _property(publisher, "voms_authz") == "/grid/example"
    membership = publisher.prefix / "membership"
    membership.write_text("x509%/O=other\n")
    for given, expected in ((membership, "x509%/O=other"), (None, "x509%/O=other"), (Path("/dev/null"), None)):
        publisher.root("transaction", publisher.fqrn)
        publisher.root("publish", *(("-F", given) if given else ()), publisher.fqrn)
        assert _property(publisher, "voms_authz") == expected
    publisher.root("transaction", publisher.fqrn)
    refused = publisher.root("publish", "-F", "/nonexistent", publisher.fqrn, check=False)
    assert (refused.returncode, "membership file cannot be read" in refused.stderr) == (1, True)
    publisher.root("abort", "-f", publisher.fqrn)


def _map_owners(publisher: OwnedPublisher) -> None:
    for name, rule in (("UID", f"{UID} 1234\n"), ("GID", "* 4321\n")):
        (publisher.prefix / name).write_text(f"# from to\n{rule}")
        publisher.configure({f"CVMFS_{name}_MAP": str(publisher.prefix / name)})
    publisher.root("transaction", publisher.fqrn)
    publisher.run("sh", "-ec", f"echo y >{publisher.union}/mapped")
    publisher.root("publish", publisher.fqrn)
    owners = dict(_catalog(publisher).execute("SELECT name, uid || ':' || gid FROM catalog"))
    assert (owners["mapped"], owners["x"]) == ("1234:4321", f"{UID}:{UID}")


def _object(publisher: Publisher, root_hash: str) -> Path:
    return publisher.storage / "data" / root_hash[:2] / f"{root_hash[2:]}C"


def _catalog(publisher: Publisher) -> sqlite3.Connection:
    manifest = signing.parse_manifest((publisher.storage / ".cvmfspublished").read_bytes()).fields
    connection = sqlite3.connect(":memory:")
    connection.deserialize(zlib.decompress(_object(publisher, manifest.root_hash).read_bytes()))
    return connection


def _root_flags(publisher: Publisher) -> dict[str, int]:
    return dict(_catalog(publisher).execute("SELECT name, flags FROM catalog"))


def _property(publisher: Publisher, key: str) -> str | None:
    found = _catalog(publisher).execute("SELECT value FROM properties WHERE key = ?", (key,)).fetchone()
    return str(found[0]) if found else None
