"""Owners who are not root: the user works on the repository, and root's commands on it leave nothing of root's behind.

The union is fuse-overlayfs, by a user who exists in the test's own mount namespace only.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.format import check
from tests.support import processes
from tests.support.life.story import SETTINGS
from tests.support.owners import UID, USER, OwnedPublisher, owned
from tests.support.waiting import wait_until

LONG = os.environ.get("NEARFS_LONG_TESTS") == "1"
FQRN = "owned.example.org"
pytestmark = [pytest.mark.mount, pytest.mark.timeout(900 if LONG else 240)]


@pytest.fixture
def publisher() -> Iterator[OwnedPublisher]:
    """A repository of a user, who may not show it to others: Debian's default."""
    with owned(FQRN) as made:
        made.create("-z")
        yield made


_SHOW = """
import json, os, sys
found = {}
for top, directories, files in os.walk(sys.argv[1]):
    for path in (os.path.join(top, name) for name in directories + files):
        seen = os.lstat(path)
        content = os.readlink(path) if os.path.islink(path) else open(path).read() if os.path.isfile(path) else None
        time = int(seen.st_mtime) if os.path.isfile(path) and not os.path.islink(path) else None
        attributes = {name: os.getxattr(path, name).hex() for name in os.listxattr(path) if name.startswith("user.")} \\
            if not os.path.islink(path) else {}
        found[path[len(sys.argv[1]):]] = [oct(seen.st_mode), seen.st_uid, seen.st_gid, time, content, attributes]
print(json.dumps(found))
"""

# What a person does, by what it shows; each is done to the union and to a plain directory.
STEPS = {
    "add": """
        mkdir -p sw/1.0/lib sw/1.0/doc data plain; echo code >sw/1.0/lib/code; echo text >sw/1.0/doc/text
        echo one >data/one; echo two >data/two; ln -s ../data/one sw/link; ln data/one data/hard; touch sw/.cvmfscatalog
        echo 'will be a directory' >turns; mkdir became; echo in >became/in; printf '/sw/*\\n' >.cvmfsdirtab
        python3 -c 'import os; os.setxattr("data/two", "user.colour", b"blue")'
    """,
    "change": """
        echo more >>sw/1.0/doc/text; chmod 0711 data; chmod 0640 data/two; rm turns; mkdir turns; echo x >turns/x
        rm -r became; echo 'was a directory' >became; ln -sf nowhere sw/link; mv sw/1.0 sw/2.0
        touch -d 2001-01-01 data/two; rm plain -r
    """,
    "replace": """
        rm -r sw/2.0; mkdir sw/2.0; ls sw/2.0; [ ! -e sw/2.0/lib ]; echo new >sw/2.0/new
        rm became; mkdir became; echo again >became/again; rm -r turns; echo 'a file again' >turns
        rm sw/.cvmfscatalog; echo patched >data/two; mkdir -p deep/a/b/c; touch deep/a/b/c/.cvmfscatalog deep/a/b/c/f
    """,
    "read-only places": """
        chmod 0555 deep/a/b; mkdir sealed; echo s >sealed/s; chmod 0444 sealed/s; chmod 0555 sealed
    """,
    "remove": "rm -r data/hard new_repository; mv data elsewhere",
}


def _tree(publisher: OwnedPublisher, root: Path) -> dict[str, list[object]]:
    found: dict[str, list[object]] = json.loads(publisher.run(sys.executable, "-c", _SHOW, root).stdout)
    return {path: facts for path, facts in found.items() if not path.endswith("/.cvmfscatalog")}


def _do(publisher: OwnedPublisher, step: str, model: Path) -> None:
    for place in (model, publisher.union):
        publisher.run("sh", "-ec", f"cd {place}\n{STEPS[step]}")


def _expect(publisher: OwnedPublisher, model: Path) -> None:
    """Fails unless the tree is the model's, the repository is sound, and all of it is the owner's."""
    wanted, seen = _tree(publisher, model), _tree(publisher, publisher.union)
    # A model's file is as old as its own making.
    for path in wanted.keys() & seen.keys():
        if wanted[path][3] != 978307200:
            wanted[path][3] = seen[path][3]
    assert seen == wanted
    assert publisher.server("check", publisher.fqrn).stdout.endswith("no problems found\n")
    assert check.check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn) == []
    assert publisher.foreign() == []


def test_a_user_publishes(publisher: OwnedPublisher) -> None:
    assert publisher.foreign() == []
    key = publisher.public_key.with_suffix(".key").lstat()
    assert (key.st_uid, oct(key.st_mode & 0o777)) == (UID, "0o400")
    publisher.configure({"CVMFS_INCLUDE_XATTRS": "true", "CVMFS_AUTO_TAG": "false"})
    model = publisher.prefix / "model"
    model.mkdir()
    os.chown(model, UID, UID)
    publisher.run("cp", publisher.union / "new_repository", model)
    for step, script in STEPS.items():
        publisher.server("transaction", publisher.fqrn)
        _do(publisher, step, model)
        if step == "replace":
            publisher.server("abort", "-f", publisher.fqrn)
            publisher.server("transaction", publisher.fqrn)
            publisher.run("sh", "-ec", f"cd {publisher.union}\n{script}")
        assert publisher.server("diff", "-w", publisher.fqrn).stdout.count("\n") > 3
        publisher.server("publish", "-a", step.replace(" ", "-"), publisher.fqrn)
        _expect(publisher, model)
        assert publisher.server("list").stdout == f"{FQRN} (stratum0 / local)\n"
    # What its owner may not write, fuse-overlayfs cannot copy; it goes without a mount.
    publisher.server("transaction", publisher.fqrn)
    sealed = publisher.run("chmod", "0755", publisher.union / "sealed", check=False)
    assert "Permission denied" in sealed.stderr
    publisher.server("publish", publisher.fqrn)
    publisher.server("ingest", "-d", "sealed", publisher.fqrn)
    publisher.run("sh", "-ec", f"cd {model}; chmod 0755 sealed; rm -r sealed")
    _expect(publisher, model)
    # Others see nothing of it while fuse.conf does not let them, and a command of root is not confused by that.
    assert publisher.run("ls", publisher.union, as_root=True, check=False).returncode != 0
    assert publisher.root("list").stdout == f"{FQRN} (stratum0 / local)\n"
    shown = _tree(publisher, publisher.union)
    publisher.server("rollback", "-f", "-t", "add", publisher.fqrn)
    assert "/sw/1.0/lib/code" in _tree(publisher, publisher.union)
    archive = publisher.prefix / "archive.tar"
    processes.run(["tar", "-C", "/", "-cf", archive, "etc/passwd"])
    publisher.server("ingest", "-t", archive, "-b", "ingested", publisher.fqrn)
    assert _tree(publisher, publisher.union)["/ingested/etc/passwd"][1:3] == [UID, UID]
    publisher.server("gc", "-f", "-r", "0", publisher.fqrn)
    publisher.server("tag", "-a", "kept", publisher.fqrn)
    assert "kept" in publisher.tags()
    assert shown
    assert publisher.foreign() == []


def test_a_publish_that_fails_or_is_killed_loses_nothing(publisher: OwnedPublisher) -> None:
    new = publisher.union / "new"
    publisher.server("transaction", publisher.fqrn)
    publisher.run("sh", "-ec", f"echo kept >{new}; mkdir {publisher.union}/d; echo x >{publisher.union}/d/x")
    with processes.started(publisher.words(["tail", "-f", new]), publisher.prefix / "tail"):
        publisher.run("sh", "-c", f"until pgrep -u {USER} -f 'tail -f {new}'; do sleep 0.1; done")
        refused = publisher.server("publish", publisher.fqrn, check=False)
        assert (refused.returncode, "open read-only file descriptors" in refused.stderr) == (1, True), refused
    refused = publisher.server("publish", "-a", "trunk", publisher.fqrn, check=False)
    assert (refused.returncode, "already in use" in refused.stderr) == (1, True), refused
    publisher.run("sh", "-ec", f"mkdir {publisher.union}/closed; echo y >{publisher.union}/closed/y")
    publisher.run("chmod", "000", publisher.union / "closed" / "y")
    refused = publisher.server("publish", publisher.fqrn, check=False)
    assert (refused.returncode, "closed/y: Permission denied" in refused.stderr) == (1, True), refused
    publisher.run("chmod", "600", publisher.union / "closed" / "y")
    assert publisher.run("cat", new).stdout == "kept\n"
    outcomes = set()
    for number in range(1, 40 if LONG else 14):
        if not publisher.server("list").stdout.count("in transaction"):
            publisher.server("transaction", publisher.fqrn)
        publisher.run("sh", "-ec", f"echo {number} >{new}")
        calls = "rename,renameat,renameat2"
        inject = f"inject={calls}:signal=SIGKILL:when={number}"
        traced = ["strace", "-D", "-f", "-qq", "-u", USER, "-o", "/dev/null", "-e", f"trace={calls}", "-e", inject]
        words = [sys.executable, "-m", "nearfs.compat.cvmfs_server", "publish", publisher.fqrn]
        # strace lives on beside the command, and with it what it was given to write to.
        alone = ["sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh"]
        outcomes.add(publisher.run(*alone, *traced, *words, as_root=True, check=False).returncode)
        publisher.server("mount", publisher.fqrn)
        assert publisher.run("cat", new).stdout == f"{number}\n", "published, or still there to be published"
        if "in transaction" in publisher.server("list").stdout:
            publisher.server("publish", publisher.fqrn)
        assert publisher.run("cat", new).stdout == f"{number}\n"
    assert outcomes > {0}
    # The union's own process is killed in a transaction: the next command mends it, and the changes are still there.
    publisher.server("transaction", publisher.fqrn)
    publisher.run("sh", "-ec", f"echo late >{new}; pkill -KILL -u {USER} -f '^fuse-overlayfs .*{publisher.union}'")
    assert "unhealthy" in publisher.server("list").stdout
    publisher.server("publish", publisher.fqrn)
    assert publisher.run("cat", new).stdout == "late\n"
    assert publisher.server("check", publisher.fqrn).stdout.endswith("no problems found\n")
    assert publisher.foreign() == []


def test_root_works_as_the_owner(publisher: OwnedPublisher) -> None:
    publisher.root("transaction", publisher.fqrn)
    publisher.run("sh", "-ec", f"echo x >{publisher.union}/x")
    missing = publisher.root("publish", "-a", "no tag", publisher.fqrn, check=False)
    assert (missing.returncode, "Spaces are not allowed" in missing.stderr) == (1, True)
    assert "Published revision 2" in publisher.root("publish", "-a", "two", publisher.fqrn).stdout
    again = publisher.root("publish", publisher.fqrn, check=False)
    assert (again.returncode, "is not in a transaction" in again.stderr) == (1, True)
    publisher.root("transaction", publisher.fqrn)
    busy = publisher.root("transaction", publisher.fqrn, check=False)
    assert (busy.returncode, "another transaction is already open" in busy.stderr) == (17, True)
    assert publisher.root("abort", publisher.fqrn, check=False).returncode == 4
    publisher.root("abort", "-f", publisher.fqrn)
    build = publisher.prefix / "build"
    publisher.run("sh", "-ec", f"mkdir -m 700 {build}; echo built >{build}/built", as_root=True)
    into: list[str | Path] = [
        sys.executable,
        "-m",
        "nearfs.cli.main",
        "publish",
        "--owner",
        f"{UID}:{UID}",
        build,
        f"{FQRN}:/b",
    ]
    publisher.run(*into, as_root=True)
    assert publisher.run("cat", publisher.union / "b" / "built").stdout == "built\n"
    for words in (
        ["tag", "-a", "now"], ["rollback", "-f", "-t", "two"], ["check", "-r"], ["gc", "-f", "-r", "1"],
        ["alterfs", "-m", "off"], ["alterfs", "-m", "on"], ["resign", "-f", "-d", "20"], ["resign", "-p"],
        ["eliminate-hardlinks", "-f"], ["fix-stats", "-f"], ["checkout", "-t", "two"], ["checkout"], ["mount"],
    ):  # fmt: skip
        publisher.root(*words, publisher.fqrn)
        assert publisher.foreign() == [], words
    assert publisher.root("gc", "-a", "-f").returncode == 0
    log = publisher.prefix / "var/log/cvmfs/gc.log"
    assert log.read_text().count(f"Starting {FQRN}") == 1
    assert "ERROR" not in log.read_text()
    for point in publisher.mounts():
        publisher.run("umount", point, as_root=True)
    publisher.run("mount", "-t", "tmpfs", "strange", publisher.union, as_root=True)
    refused = publisher.root("transaction", publisher.fqrn, check=False)
    assert (refused.returncode, "root has to unmount it first" in refused.stderr) == (1, True), refused
    publisher.run("umount", publisher.union, as_root=True)
    publisher.root("mount", "-a")
    assert publisher.run("cat", publisher.union / "x").stdout == "x\n"
    for command in ("transaction", "tag"):
        stranger = ["setpriv", "--reuid=4712", "--regid=4712", "--clear-groups", "--inh-caps=-all"]
        words = [*stranger, sys.executable, "-m", "nearfs.compat.cvmfs_server", command]
        refused = publisher.run(*words, *(["-a", "t"] if command == "tag" else []), FQRN, as_root=True, check=False)
        assert (refused.returncode, f"is owned by {USER}" in refused.stderr) == (1, True), refused
    assert publisher.foreign() == []
    publisher.root("rmfs", "-f", publisher.fqrn)
    assert (publisher.mounts(), publisher.storage.exists(), publisher.spool.exists()) == ([], False, False)


def test_others_see_the_tree_where_fuse_lets_them() -> None:
    with owned(FQRN, fuse_settings="user_allow_other") as publisher:
        publisher.create("-g", "-z")
        publisher.configure(SETTINGS)
        greeting = publisher.run("cat", publisher.union / "new_repository", as_root=True).stdout
        assert greeting == f"New CernVM-FS repository for {FQRN}\n"
        turns = 60 if LONG else 8
        lived = publisher.run(
            sys.executable, "-m", "tests.support.life.owning", publisher.prefix, FQRN, "1", str(turns)
        )
        assert lived.stdout.startswith(f"{turns} turns")
        # A file of a process that the owner cannot look into: refused until it is closed, or forced.
        publisher.server("transaction", publisher.fqrn)
        reading = publisher.words(["tail", "-f", publisher.union / "new_repository"], as_root=True)
        publisher.run("sh", "-ec", f"echo x >{publisher.union}/new_repository")
        with processes.started(reading, publisher.prefix / "tail") as process:
            _until_open(process)
            refused = publisher.server("publish", publisher.fqrn, check=False)
            assert (refused.returncode, "it is in use" in refused.stderr) == (1, True), refused
            assert "in transaction" in publisher.server("list").stdout
            publisher.server("publish", "-f", publisher.fqrn)
        assert publisher.foreign() == []


def _until_open(process: subprocess.Popen[bytes]) -> None:
    def is_open() -> bool:
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(entry).endswith("new_repository"):
                    return True
        return False

    wait_until(is_open, 20, "the file is open")
