"""Bundles by the commands: specifications and triggers, recording, what a repository states, packs of bundles."""

import contextlib
import hashlib
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.format import check
from tests.format.catalog import BUNDLE_TRIGGER, Row, walk
from tests.format.manifest import read_manifest
from tests.format.store import ObjectStore
from tests.support import processes
from tests.support.golden import NAMES
from tests.support.owners import UID, OwnedPublisher, owned
from tests.support.publishing import Publisher
from tests.support.site import MOUNT_DIR, Site

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]

NEARFS = [sys.executable, "-m", "nearfs.cli.main"]
PROGRAM = """#!/bin/sh
here=$(dirname "$0")/..
for name in f3 f1 f7; do cat "$here/lib/$name"; done
"""
FILES = ["/lib/f3", "/lib/f1", "/lib/f7"]


def nearfs(publisher: Publisher, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a command of ours on the publisher's machine."""
    return processes.run([*NEARFS, *words], check=check, env=publisher.environment, cwd=Path("/"))


def rows(publisher: Publisher) -> dict[str, Row]:
    """Returns the newest revision's rows by path, read without code of ours."""
    root = read_manifest(publisher.storage).root_hash
    catalogs = walk(ObjectStore(publisher.storage), root)
    return {path.decode(): row for catalog in catalogs for path, row in catalog.paths.items()}


def triggers(publisher: Publisher) -> set[str]:
    """Returns the files with the flag."""
    return {path for path, row in rows(publisher).items() if row.flags & BUNDLE_TRIGGER}


def clean(publisher: Publisher) -> None:
    """Fails unless both checkers find the repository sound."""
    publisher.server("check", "-c", publisher.fqrn)
    assert check.check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn) == []


def specification(*files: str) -> str:
    """Returns what a person would write."""
    form = {"name": "CVMFS_BUNDLE", "version": "1.0.0", "encoding": "UTF-8", "dependencies": files}
    return f"#%CVMFS_BUNDLE version=1 encoding=UTF-8\n{json.dumps(form)}\n"


def program(tree: Path) -> None:
    """Puts a program into a tree, with its files in a nested catalog, and room for packs."""
    (tree / "bin").mkdir()
    (tree / "bin" / "run").write_text(PROGRAM)
    (tree / "bin" / "run").chmod(0o755)
    (tree / "lib").mkdir()
    (tree / "lib" / ".cvmfscatalog").touch()
    for number in range(9):
        (tree / "lib" / f"f{number}").write_text(f"module {number}\n" * (number + 1))
    (tree / "large").write_bytes(os.urandom(1 << 20))


def state(publisher: Publisher, text: str) -> None:
    """Writes `bundles.conf`."""
    path = publisher.prefix / "etc" / "cvmfs" / "repositories.d" / publisher.fqrn / "bundles.conf"
    path.write_text(text)


def test_a_file_is_a_trigger_while_its_specification_is_there(publisher: Publisher) -> None:
    publisher.create("-z")
    with publisher.transaction() as tree:
        program(tree)
    before = rows(publisher)
    with publisher.transaction() as tree:
        (tree / "bin" / ".cvmfsbundle-run").write_text(specification(*FILES))
        (tree / "lib" / ".cvmfsbundle-later").write_text(specification("f1", "./f2"))
    assert triggers(publisher) == {"/bin/run"}
    after = rows(publisher)
    assert after["/bin/run"].flags == before["/bin/run"].flags | BUNDLE_TRIGGER
    assert after["/bin/run"].digest == before["/bin/run"].digest
    assert os.getxattr(publisher.spool / "rdonly" / "bin" / "run", "user.bundle_trigger") == b"1"
    assert os.getxattr(publisher.spool / "rdonly" / "lib" / "f1", "user.bundle_trigger") == b"0"
    assert publisher.server("diff", publisher.fqrn).returncode == 0
    clean(publisher)
    with publisher.transaction() as tree:
        (tree / "lib" / "later").write_text("the trigger comes last")
        (tree / "bin" / "run").write_text(PROGRAM + "# changed\n")
    assert triggers(publisher) == {"/bin/run", "/lib/later"}
    with publisher.transaction() as tree:
        (tree / "bin" / ".cvmfsbundle-run").unlink()
        (tree / "lib" / "later").rename(tree / "lib" / "elsewhere")
    assert triggers(publisher) == set()
    clean(publisher)


def test_every_way_to_publish_keeps_the_flag_right(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    tree = tmp_path / "tree"
    tree.mkdir()
    program(tree)
    (tree / "bin" / ".cvmfsbundle-run").write_text(specification(*FILES))
    (tree / "lib" / ".cvmfsbundle-f1").write_text("{ no JSON")
    (tree / "lib" / ".cvmfsbundle-f2").write_text(specification("f1", "../f3"))
    done = nearfs(publisher, "publish", tree, f"{publisher.fqrn}:/sw")
    assert "/sw/lib/.cvmfsbundle-f1: published as an ordinary file" in done.stderr
    assert "/sw/lib/.cvmfsbundle-f2: 1 of its dependencies are no paths" in done.stderr
    assert triggers(publisher) == {"/sw/bin/run", "/sw/lib/f2"}
    processes.run(["tar", "cf", tmp_path / "tree.tar", "-C", tree, "bin"])
    publisher.server("ingest", "-t", tmp_path / "tree.tar", "-b", "other", publisher.fqrn)
    assert triggers(publisher) == {"/sw/bin/run", "/sw/lib/f2", "/other/bin/run"}
    publisher.server("ingest", "-d", "other/bin/.cvmfsbundle-run", publisher.fqrn)
    publisher.server("transaction", "-T", "sw=copy", publisher.fqrn)
    publisher.server("publish", publisher.fqrn)
    expected = {"/sw/bin/run", "/sw/lib/f2", "/copy/bin/run", "/copy/lib/f2"}
    assert triggers(publisher) == expected
    publisher.server("rollback", "-f", "-t", "trunk-previous", publisher.fqrn)
    assert triggers(publisher) == {"/sw/bin/run", "/sw/lib/f2"}
    clean(publisher)


def recorded(publisher: Publisher, *words: str | Path) -> list[str]:
    """Records a command; returns the files that the specification lists."""
    done = nearfs(publisher, "bundle", "record", "--repository", publisher.fqrn, *words)
    files: list[str] = json.loads(done.stdout)["dependencies"]
    return files


def test_a_run_on_the_publisher_gives_the_files_in_their_order(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    with publisher.transaction() as tree:
        program(tree)
    run = publisher.union / "bin" / "run"
    assert recorded(publisher, "--", run) == FILES
    assert recorded(publisher, "--trigger", "/lib/f3", "--", run) == FILES[1:]
    target = tmp_path / "specification"
    failing = nearfs(
        publisher, "bundle", "record", "--repository", publisher.fqrn, "-o", target,
        "--", "sh", "-c", f"{run}; exit 3", check=False,
    )  # fmt: skip
    assert (failing.returncode, json.loads(target.read_text())["dependencies"]) == (3, FILES), failing.stderr
    assert "/bin/.cvmfsbundle-run" in failing.stderr
    cases: list[tuple[list[str | Path], str]] = [
        (["--trigger", "/lib/f8", "--", run], "did not open /lib/f8"),
        (["--", "true"], "opened no file of the repository"),
        (["--", "/no/such/command"], "opened no file"),
    ]
    for words, reason in cases:
        done = nearfs(publisher, "bundle", "record", "--repository", publisher.fqrn, *words, check=False)
        assert (done.returncode != 0, reason in done.stderr) == (True, True), done.stderr
    begun = time.monotonic()
    slow = f"{run}; sleep 1000"
    words = ["--limit", "1", "--", "sh", "-c", slow]
    done = nearfs(publisher, "bundle", "record", "--repository", publisher.fqrn, *words, check=False)
    assert (done.returncode, "its time was over" in done.stderr) == (1, True), done.stderr
    assert json.loads(done.stdout)["dependencies"] == FILES
    assert time.monotonic() - begun < 30


def packs_of_trigger(publisher: Publisher, mountpoint: str, trigger: str) -> list[str]:
    """Returns the files in the packs that a trigger's key leads to, read without code of ours."""
    found = rows(publisher)
    name = hashlib.md5(mountpoint.encode(), usedforsecurity=False).hexdigest()
    store = ObjectStore(publisher.storage)

    def content(row: Row) -> bytes:
        assert row.content_hash is not None
        return store.load(row.content_hash, "", plain=row.is_plain, limit=row.size)

    table = content(found[f"/.nearfs/t{name}"])
    packs, _, keys = struct.unpack_from("<III", table, 12)
    key = hashlib.md5(trigger.encode(), usedforsecurity=False).digest()[:8]
    entries = [table[len(table) - 12 * (keys - at) :][:12] for at in range(keys)]
    numbers = [struct.unpack("<I", entry[8:])[0] for entry in entries if entry[:8] == key]
    names = {row.digest: path for path, row in found.items() if row.digest}
    files: list[str] = []
    for number in numbers:
        assert number < packs
        pack = content(found[names[table[24 + 32 * number :][:20]]])
        count, index = struct.unpack_from("<II", pack, len(pack) - 12)
        members = [pack[index + 32 * at :][:32] for at in range(count)]
        members.sort(key=lambda member: int.from_bytes(member[24:28], "little"))
        files += [names[member[:20]] for member in members]
    return files


def test_what_a_repository_states_is_recorded_and_published_once(publisher: Publisher) -> None:
    publisher.create("-z")
    with publisher.transaction() as tree:
        program(tree)
    nothing = nearfs(publisher, "bundle", "publish", publisher.fqrn, check=False)
    assert (nothing.returncode, "bundles.conf" in nothing.stderr) == (1, True), nothing.stderr
    run = publisher.union / "bin" / "run"
    state(publisher, f"# programs\n\n{run}\ncat {run} {publisher.union}/lib/f5\ntrigger: /lib/f1\n{run} >/dev/null\n")
    publisher.configure({"NEARFS_PACKS": "true"})
    first = read_manifest(publisher.storage).root_hash
    dry = nearfs(publisher, "bundle", "publish", "--dry-run", publisher.fqrn)
    assert "[bundle] /bin/run (4 files)" in dry.stdout
    assert read_manifest(publisher.storage).root_hash == first
    nearfs(publisher, "bundle", "publish", publisher.fqrn)
    assert triggers(publisher) == {"/bin/run", "/lib/f1"}
    written = json.loads((publisher.union / "bin" / ".cvmfsbundle-run").read_text())
    assert written["dependencies"] == [*FILES, "/lib/f5"]
    assert packs_of_trigger(publisher, "", "/bin/run") == [*FILES, "/lib/f5"]
    clean(publisher)
    second = read_manifest(publisher.storage).root_hash
    again = json.loads(nearfs(publisher, "bundle", "publish", "--json", publisher.fqrn).stdout)
    assert again == {
        "repository": publisher.fqrn,
        "published": [],
        "unchanged": ["/bin/run", "/lib/f1"],
        "failed": 0,
    }
    assert read_manifest(publisher.storage).root_hash == second
    shown = json.loads(nearfs(publisher, "bundle", "show", "--json", publisher.fqrn).stdout)
    assert [(one["trigger"], len(one["dependencies"]), one["problem"]) for one in shown] == [
        ("/bin/run", 4, ""),
        ("/lib/f1", 1, ""),
    ]
    beside = nearfs(publisher, "bundle", "show", publisher.union / "bin" / "run")
    assert "/bin/run: 4 files" in beside.stdout
    assert "4 small files" in beside.stdout
    assert nearfs(publisher, "bundle", "show", publisher.union).stdout.splitlines()[1].split()[:2] == ["/bin/run", "4"]


def test_a_command_that_fails_or_hangs_costs_its_own_bundle_only(publisher: Publisher) -> None:
    publisher.create()
    with publisher.transaction() as tree:
        program(tree)
    run = publisher.union / "bin" / "run"
    state(publisher, f"{run}\necho what went wrong; false\nsleep 1000 & sleep 1000\n{run} && cat /no/such/file\n")
    publisher.configure({"NEARFS_BUNDLES": "yes", "NEARFS_BUNDLES_LIMIT": "2"})
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "new").touch()
    begun = time.monotonic()
    done = publisher.server("publish", publisher.fqrn)
    assert time.monotonic() - begun < 60
    assert "no bundle of 'echo what went wrong; false': it ended with status 1:\nwhat went wrong" in done.stderr
    assert "no bundle of 'sleep 1000 & sleep 1000': its time was over" in done.stderr
    assert "/no/such/file" in done.stderr
    assert triggers(publisher) == {"/bin/run"}
    assert (publisher.union / "new").exists()
    state(publisher, "trigger: relative\ntrue\n")
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "newer").touch()
    done = publisher.server("publish", publisher.fqrn)
    assert "bundles.conf, line 1" in done.stderr
    assert f"try again with: nearfs bundle publish {publisher.fqrn}" in done.stderr
    assert (publisher.union / "newer").exists()
    clean(publisher)


@pytest.fixture
def owner() -> Iterator[OwnedPublisher]:
    """A repository of a user who is not root, with a program."""
    with owned("owned.example.org") as made:
        made.create()
        made.server("transaction", made.fqrn)
        made.run("sh", "-ec", _OWNERS_PROGRAM.format(tree=made.union, program=PROGRAM))
        made.server("publish", made.fqrn)
        yield made


_OWNERS_PROGRAM = """
cd {tree}; mkdir bin lib; cat >bin/run <<'END'
{program}END
chmod +x bin/run; for n in 1 3 7; do echo $n >lib/f$n; done
"""


@pytest.mark.parametrize("as_root", [True, False])
def test_stated_commands_run_as_the_owner(owner: OwnedPublisher, as_root: bool) -> None:
    path = owner.prefix / "etc" / "cvmfs" / "repositories.d" / owner.fqrn / "bundles.conf"
    told = owner.spool / "told"
    path.write_text(f"{owner.union}/bin/run && (id -u; tail -1 /proc/mounts) >{told}\n")
    words = ["bundle", "publish", owner.fqrn]
    done = owner.run(*NEARFS, *words, as_root=as_root, check=False)
    if not as_root and "gives users no namespaces" in done.stderr:
        pytest.skip("users have no namespaces of their own here")
    assert done.returncode == 0, done.stderr
    # In a namespace of the user's own, he is called root.
    caller, mounted = told.read_text().splitlines()
    assert caller == (str(UID) if as_root else "0")
    assert mounted.startswith(f"nearfs-bundle {owner.union} fuse ro,nosuid,nodev"), mounted
    assert triggers(owner) == {"/bin/run"}
    assert owner.foreign() == []


POINT = f"{MOUNT_DIR}/{NAMES[0]}"
_RECORD = f"{sys.executable} -m nearfs.cli.main bundle record"


def _site_files(text: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, document = line.partition(" ")
        with contextlib.suppress(json.JSONDecodeError):
            found[name] = json.loads(document)["dependencies"]
    return found


def test_a_client_records_on_its_mount_or_on_one_of_the_commands_own(site: Site) -> None:
    done = site.run(f"""
mkdir -p {POINT}
show() {{ echo "$1 $(tr -d '\\n' <$2)"; }}
noise() {{ while :; do cat {POINT}/many/f00010; cat {POINT}/many/f00011; done >/dev/null; }}
cd {MOUNT_DIR}
{_RECORD} --repository {NAMES[0]} -o /mnt/own -- cat {NAMES[0]}/hello.txt {NAMES[0]}/bin/tool {NAMES[0]}/dup/a
show own /mnt/own
! grep -q ' {POINT} ' /proc/mounts
mount -t cvmfs {NAMES[0]} {POINT}
cat {POINT}/hello.txt >/dev/null
noise & noise=$!
{_RECORD} --repository {NAMES[0]} -o /mnt/there -- sh -c 'cat {POINT}/hello.txt; sleep 0.3; cat {POINT}/dup/b | cat'
{_RECORD} --repository {NAMES[0]} --mount -o /mnt/beside -- cat {POINT}/hello.txt {POINT}/dup/a
kill $noise
show there /mnt/there
show beside /mnt/beside
cvmfs_talk -i {NAMES[0]} mountpoint
umount {POINT}
""")
    files = _site_files(done.stdout)
    assert files == {"own": ["/bin/tool", "/dup/a"], "there": ["/dup/b"], "beside": ["/dup/a"]}, done.stderr
    assert f"{POINT}\n" in done.stdout, "the client that was there is there still"
