"""Every contender of the benchmarks that runs on this kernel: one tree, the same bytes each way, and honest counts."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.contenders import registry
from bench.harness.commands import SCRATCH, TREE, Command
from bench.harness.contender import Tree
from bench.harness.result import LineKey
from bench.lab import line as lines
from tests.support.publishing import Publisher

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]

FILES = 30
NEEDS = {
    "nearfs-nginx": ["nginx"],
    "nearfs-squid": ["squid"],
    "nearfs-nginx-squid": ["nginx", "squid"],
    "squashfuse": ["squashfuse", "mksquashfs"],
}
PATH = f"{os.environ['PATH']}:/usr/sbin"
WAYS = ["nearfs", "nearfs-off", "nearfs-nginx", "nearfs-squid", "nearfs-nginx-squid", "portable", "local", "squashfuse"]
READ_ALL = Command(("sh", "-c", 'cd "$1" && find . -type f -name "file-*" | sort | xargs cat | sha1sum', "sh", TREE))


@pytest.fixture
def tree(publisher: Publisher, tmp_path: Path) -> Tree:
    source = tmp_path / "source"
    for number in range(FILES):
        path = source / f"group-{number % 3}" / f"file-{number:02d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * 200)
    publisher.create()
    with publisher.transaction() as union:
        shutil.copytree(source, union, dirs_exist_ok=True)
    return Tree("small", source, publisher.fqrn, publisher.storage.parent, publisher.public_key)


@pytest.fixture
def line() -> Iterator[lines.Line]:
    with lines.up(LineKey(2, 0), f"nfc{os.getpid()}", check=False) as made:
        yield made


@pytest.mark.parametrize("name", WAYS)
def test_all_ways_lead_to_the_same_bytes(name: str, tree: Tree, line: lines.Line, tmp_path: Path) -> None:
    for program in NEEDS.get(name, []):
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"{program} is not installed (ci/setup lab)")
    contender = registry.ALL[name]
    assert contender.missing() is None
    paths = sorted(tree.source.rglob("file-*"), key=lambda path: f"./{path.relative_to(tree.source)}")
    expected = hashlib.sha1(b"".join(path.read_bytes() for path in paths), usedforsecurity=False).hexdigest()
    home = tmp_path / "contender"
    home.mkdir()
    with contender.serving(home, line, tree) as serving:
        client = serving.client()
        try:
            crossed = {}
            for state, empty in (("cold", True), ("warm", False)):
                client.mount(empty_cache=empty)
                before, traffic, served = client.counts(), line.traffic(), serving.served()
                run = client.run(READ_ALL)
                assert run.stdout.split()[0] == expected, (state, run)
                crossed[state] = line.traffic().down_bytes - traffic.down_bytes
                asked = client.counts().since(before)
                if contender.has_disk_cache:
                    assert asked.requests == (FILES if state == "cold" else 0), (state, asked)
                    # What the client says, the server's own log says too: behind an empty Squid as well.
                    at_server = serving.served().since(served)
                    assert (at_server.requests, at_server.fetched_bytes) == (asked.requests, asked.fetched_bytes)
                if name.endswith("squid"):
                    assert os.getxattr(home / "client-0" / "mnt", "user.proxy").startswith(b"http://10.79.0.1:")
                client.drop_caches()
            if name == "local":
                assert crossed["cold"] == crossed["warm"] == 0
            elif contender.is_remote:
                assert crossed["cold"] > FILES * 200 > crossed["warm"]
            scratch = client.run(Command(("sh", "-c", 'touch "$1/x" && ls -A "$1"', "sh", SCRATCH)))
            assert scratch.stdout == "x\n"
            failing = client.run(Command(("sh", "-c", "echo no >&2; exit 3")))
            assert (failing.exit_code, failing.stderr) == (3, "no\n")
        finally:
            client.close()
    assert not (home / "client-0").exists()


@pytest.mark.parametrize("name", ["nearfs", "nearfs-squid"])
def test_what_was_learned_outlives_the_cache(name: str, tree: Tree, line: lines.Line, tmp_path: Path) -> None:
    if name.endswith("squid") and shutil.which("squid", path=PATH) is None:
        pytest.skip("squid is not installed (ci/setup lab)")
    with registry.ALL[name].serving(tmp_path, line, tree) as serving:
        client = serving.client()
        try:
            client.mount(empty_cache=True)
            assert client.run(READ_ALL).exit_code == 0
            client.unmount()
            learned = tmp_path / "client-0" / "cache" / tree.fqrn / "traces"
            learned.mkdir(parents=True, exist_ok=True)
            (learned / "of-a-program").write_text("kept")
            client.forget_content()
            left = [path for path in (tmp_path / "client-0" / "cache").rglob("*") if path.is_file()]
            assert all(learned in path.parents for path in left)
            assert learned / "of-a-program" in left
            client.mount(empty_cache=False)
            before, served = client.counts(), serving.served()
            assert client.run(READ_ALL).exit_code == 0
            assert client.ahead()["prefetch_pending_bytes"] == 0
            assert (client.counts().since(before).requests or 0) >= FILES
            assert (serving.served().since(served).requests or 0) >= FILES, "no proxy has kept it"
        finally:
            client.close()


def test_the_reference_client_is_left_out_unless_it_is_given(
    tree: Tree, line: lines.Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = registry.ALL["reference"]
    monkeypatch.delenv("BENCH_REFERENCE_CVMFS2", raising=False)
    assert "not given" in (reference.missing() or "")
    monkeypatch.setenv("BENCH_REFERENCE_CVMFS2", "/nonexistent/cvmfs2")
    assert "is no program" in (reference.missing() or "")
    if shutil.which("nginx", path=PATH) is None:
        pytest.skip("nginx is not installed (ci/setup lab)")
    # Ours answers to the same words, so it can stand in for it.
    from bench.contenders.nearfs import our_program

    monkeypatch.setenv("BENCH_REFERENCE_CVMFS2", our_program())
    assert reference.missing() is None
    with reference.serving(tmp_path, line, tree) as serving:
        client = serving.client()
        try:
            client.mount(empty_cache=True)
            assert client.run(READ_ALL).exit_code == 0
        finally:
            client.close()
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "client-0")], capture_output=True, text=True, check=False)
    assert not left.stdout, left.stdout
