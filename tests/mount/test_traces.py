"""Learned traces: what a program opened is fetched at once when it runs again, and nothing else is.

Judged by counters of the client and by its requests, never by seconds. The other mechanisms are off, so that what comes
ahead comes by traces.
"""

import contextlib
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import mounts, processes
from tests.support.publishing import Publisher
from tests.support.serving import Server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]

LIMIT_S = 30.0
NOISE = random.Random(9)
COMMON, OWN = 20, 40
# What `tool` opens beside itself.
FILES = COMMON + OWN
ALONE = {f"NEARFS_PREFETCH_{name}": "no" for name in ("NEIGHBOURS", "CATALOGS", "READAHEAD", "PACKS")}
# It rests after the first file that all uses have in common, and after the first one of its own: as long as a line
# takes.
TOOL = """#!/bin/sh
here=$(dirname "$0")/..
cat "$here"/common/part-00/*; sleep 0.3
cat "$here"/common/*/* "$here/use-$1"/part-00/*; sleep 0.3
exec cat "$here/use-$1"/*/*
"""

Start = Callable[[Path], Server]


class Site:
    """A repository, its server, and a cache that outlives mounts."""

    def __init__(self, publisher: Publisher, running: Server, home: Path) -> None:
        self.publisher, self.running, self.home = publisher, running, home
        self.cache = home / "cache"

    @property
    def traces(self) -> Path:
        """Where the client keeps traces."""
        return self.cache / self.publisher.fqrn / "traces" / self.publisher.fqrn

    @contextlib.contextmanager
    def mounted(self, cache: Path | None = None, **more: str) -> Iterator[Path]:
        """Mounts with nothing but traces on; afterwards the client has ended, and written down what it learned."""
        settings = self.publisher.client_settings(self.running.url, cache or self.cache, **{**ALONE, **more})
        with mounts.mounted(self.publisher.fqrn, self.home / "mount" / self.publisher.fqrn, settings) as point:
            pid = os.getxattr(point, "user.pid").decode("ascii")
            yield point
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), LIMIT_S, "the client has ended")

    def talk(self, words: str) -> str:
        """Returns what the mount answers to `cvmfs_talk`."""
        socket = self.cache / self.publisher.fqrn / f"cvmfs_io.{self.publisher.fqrn}"
        line: list[str | Path] = [sys.executable, "-m", "nearfs.compat.cvmfs_talk", "-p", socket, *words.split()]
        return processes.run(line, limit=LIMIT_S).stdout.strip()

    def command(self, *words: str | Path, cache: Path | None = None, check: bool = True) -> str:
        """Runs `nearfs trace` on the cache directory and returns what it prints."""
        directory = (cache or self.cache) / self.publisher.fqrn
        verb, *rest = words
        line = [sys.executable, "-m", "nearfs.cli.main", "trace", verb, "--cache-dir", directory, self.publisher.fqrn]
        done = processes.run([*line, *rest], check=check, limit=LIMIT_S)
        return done.stdout if check else done.stderr

    def known(self, cache: Path | None = None) -> dict[str, Any]:
        """Returns what `nearfs trace list` knows."""
        found: dict[str, Any] = json.loads(self.command("list", "--json", cache=cache))
        return found

    def empty_cache(self) -> None:
        """Removes what is cached, as `cvmfs_config wipecache` does."""
        for path in (self.cache / self.publisher.fqrn).iterdir():
            if len(path.name) == 2:
                shutil.rmtree(path)
                path.mkdir(mode=0o700)


def counters(point: Path) -> dict[str, int]:
    """Returns the client's counters once nothing is under way."""

    def asked() -> dict[str, int]:
        lines = os.getxattr(point, "user.nearfs_counters").decode("ascii").splitlines()
        return {name: int(value) for name, value in (line.split(",") for line in lines)}

    wait_until(lambda: asked()["prefetch_pending_bytes"] == 0, LIMIT_S, "guesses have ended")
    return asked()


def was_asked(point: Path) -> bool:
    """Tells whether anything was asked for that a trace names."""
    return counters(point)["prefetch_traces_asked"] > 0


def helped(seen: dict[str, int]) -> int:
    """Returns how many files were there, or on their way, when somebody asked."""
    return seen["prefetch_traces_used"] + seen["prefetch_traces_late"]


def run(point: Path, use: str, tool: str = "bin/tool") -> bytes:
    """Runs the tool as a shell's job: in a process group of its own."""
    done = subprocess.run([point / tool, use], capture_output=True, check=True, timeout=LIMIT_S, start_new_session=True)
    return done.stdout


def fill(tree: Path, seed: int) -> None:
    """Writes a tool with two uses, in directories that nobody would guess from each other."""
    noise = random.Random(seed)
    for name, count in (("common", COMMON), ("use-one", OWN), ("use-two", OWN)):
        for number in range(count):
            path = tree / name / f"part-{number:02}" / f"{name}-{number}.kind{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(noise.randbytes(2000 + number).hex(), "ascii")
    (tree / "bin").mkdir(exist_ok=True)
    (tree / "bin" / "tool").write_text(TOOL, "ascii")
    (tree / "bin" / "tool").chmod(0o755)


@pytest.fixture
def site(publisher: Publisher, server: Start, tmp_path: Path) -> Site:
    publisher.create()
    with publisher.transaction() as tree:
        fill(tree, 1)
    return Site(publisher, server(publisher.storage.parent), tmp_path)


def test_a_program_that_ran_once_is_brought_at_once_on_an_empty_cache(site: Site) -> None:
    with site.mounted() as point:
        first = run(point, "one")
        assert counters(point)["prefetch_traces_asked"] == 0
    assert len(list(site.traces.iterdir())) == 1
    site.empty_cache()
    with site.mounted() as point:
        assert run(point, "one") == first
        seen = counters(point)
        assert helped(seen) >= FILES - 1
        assert seen["prefetch_traces_wasted"] == 0
        assert seen["traces_followed"] == 1
        again = counters(point)["requests"]
        assert run(point, "one") == first
        assert counters(point)["requests"] == again, "what is there is not asked for"
        assert counters(point)["traces_followed"] == 1, "a run that waits for nothing is not followed"


def test_each_use_of_a_program_is_brought_its_own_files(site: Site) -> None:
    with site.mounted() as point:
        expected = {use: run(point, use) for use in ("one", "two")}
    assert len(list(site.traces.iterdir())) == 3
    for use in ("one", "two"):
        site.empty_cache()
        with site.mounted() as point:
            assert run(point, use) == expected[use]
            seen = counters(point)
            assert helped(seen) >= FILES - 2, "the first files may be waited for"
            assert seen["prefetch_traces_wasted"] == 0
            assert seen["traces_followed"] == 2


def test_a_new_revision_is_found_by_the_same_trace(site: Site) -> None:
    with site.mounted() as point:
        run(point, "one")
    with site.publisher.transaction() as tree:
        for name in ("common", "use-one", "use-two"):
            shutil.rmtree(tree / name)
        fill(tree, 2)
    with site.mounted() as point:
        content = run(point, "one")
        seen = counters(point)
        assert len(content) > 4000 * FILES
        assert helped(seen) == FILES - 1, "the first file that changed is waited for"
        assert seen["prefetch_traces_wasted"] == 0


def test_traces_work_on_a_new_machine(site: Site, tmp_path: Path) -> None:
    with site.mounted() as point:
        expected = run(point, "one")
    assert "/bin/tool" in site.command("list")
    assert "/common/part-07/common-7.kind7" in site.command("show", "/bin/tool")
    site.command("export", tmp_path / "file")
    site.command("import", tmp_path / "file", cache=tmp_path / "other")
    here, there = site.known(), site.known(tmp_path / "other")
    assert [trace["name"] for trace in there["traces"]] == [trace["name"] for trace in here["traces"]]
    with site.mounted(tmp_path / "other") as point:
        assert run(point, "one") == expected
        assert helped(counters(point)) >= FILES - 1
    assert site.command("forget", "/bin/tool") == "forgotten: 1 traces\n"
    assert site.known()["traces"] == []
    assert "nothing was learned of /bin/tool" in site.command("show", "/bin/tool", check=False)


def test_traces_outlive_a_clean_up_and_a_polite_end(site: Site) -> None:
    with site.mounted() as point:
        run(point, "one")
        wait_until(lambda: counters(point)["traces_learned"] == 1, LIMIT_S, "the run is over, and was learned")
        assert site.talk("cleanup 0") in ("OK", "Not fully cleaned (there might be pinned chunks)")
        seen = counters(point)
        run(point, "one")
        assert helped(counters(point)) - helped(seen) >= FILES - 1
        run(point, "two")
        os.kill(int(os.getxattr(point, "user.pid")), signal.SIGTERM)
        wait_until(lambda: not mounts.is_mounted(point), LIMIT_S, "the client has unmounted")
        wait_until(lambda: len(site.known()["traces"]) == 3, LIMIT_S, "the last run was written down")


def test_a_client_that_is_killed_leaves_readable_traces(site: Site) -> None:
    with site.mounted() as point:
        run(point, "one")
        wait_until(lambda: counters(point)["traces_learned"] == 1, LIMIT_S, "the run is over, and was learned")
        run(point, "two")
        os.kill(int(os.getxattr(point, "user.pid")), signal.SIGKILL)
        mounts.unmount_lazily(point)
    known = site.known()
    assert (len(known["traces"]), known["damaged"]) == (1, 0)


def test_one_parameter_records_nothing_and_follows_nothing(site: Site) -> None:
    with site.mounted(NEARFS_PREFETCH="no") as point:
        run(point, "one")
    assert not site.traces.exists()
    with site.mounted() as point:
        run(point, "one")
    site.empty_cache()
    for switch in ("NEARFS_PREFETCH", "NEARFS_PREFETCH_TRACES"):
        with site.mounted(None, **{switch: "no"}) as point:
            run(point, "two")
            seen = counters(point)
            assert {name: seen[name] for name in seen if "traces" in name and seen[name]} == {}
    assert len(site.known()["traces"]) == 1


def test_a_list_goes_on_in_a_catalog_for_which_there_was_no_room(
    publisher: Publisher, server: Start, tmp_path: Path
) -> None:
    publisher.create()
    with publisher.transaction() as tree:
        fill(tree, 1)
        (tree / "use-one" / ".cvmfscatalog").touch()
        for number in range(4000):
            (tree / "use-one" / f"crowd-{number:04}-{NOISE.randbytes(20).hex()}").touch()
    site = Site(publisher, server(publisher.storage.parent), tmp_path)
    with site.mounted() as point:
        expected = run(point, "one")
    site.empty_cache()
    with site.mounted(NEARFS_PREFETCH_BUDGET="0") as point:
        assert run(point, "one") == expected
        seen = counters(point)
        assert helped(seen) > OWN
        assert seen["prefetch_unused_bytes"] <= seen["prefetch_needed_bytes"]


def trace_of(site: Site, *lines: str) -> None:
    """Puts a trace of the tool in the place of the one that was learned."""
    (path,) = site.traces.iterdir()
    text = "".join(f"{line}\n" for line in ("nearfs-trace 1", "trigger /bin/tool", "list whole", *lines))
    path.write_text(f"{text}end {len(lines)}\n", "ascii")


def test_traces_that_are_damaged_or_lie_are_passed_over(site: Site) -> None:
    with site.mounted() as point:
        expected = run(point, "one")
    (path,) = site.traces.iterdir()
    good = path.read_bytes()
    for damaged in (b"", good[:-20], good.replace(b"list", b"lost"), b"/" * (2 << 20), os.urandom(5000)):
        path.write_bytes(damaged)
        site.empty_cache()
        with site.mounted() as point:
            assert run(point, "one") == expected
            assert counters(point)["prefetch_traces_asked"] == 0
        # It was learned anew.
        assert path.read_bytes() == good
    others = [f"/use-two/part-{number:02}/use-two-{number}.kind{number}" for number in range(OWN)]
    trace_of(site, "/no/such/file", "/common", "/bin", "/bin/tool/below", "/common/part-00/%FF", *others)
    site.empty_cache()
    with site.mounted() as point:
        assert run(point, "one") == expected
        seen = counters(point)
        assert (seen["prefetch_traces_asked"], seen["prefetch_traces_wasted"]) == (OWN, OWN)
        assert seen["io_errors"] == 0
    # What both have in common is nothing: it is known as that from now on.
    site.empty_cache()
    with site.mounted() as point:
        run(point, "one")
        seen = counters(point)
        assert (seen["prefetch_traces_wasted"], helped(seen)) == (0, FILES - 1)


def test_a_lie_costs_no_more_than_the_budget(publisher: Publisher, server: Start, tmp_path: Path) -> None:
    publisher.create()
    with publisher.transaction() as tree:
        fill(tree, 1)
        for number in range(100):
            (tree / f"large-{number:02}").write_text(NOISE.randbytes(100_000).hex(), "ascii")
    site = Site(publisher, server(publisher.storage.parent), tmp_path)
    with site.mounted() as point:
        expected = run(point, "one")
    trace_of(site, *(f"/large-{number:02}" for number in range(100)))
    site.empty_cache()
    with site.mounted(NEARFS_PREFETCH_BUDGET="1") as point:
        assert run(point, "one") == expected
        seen = counters(point)
        assert seen["prefetch_traces_wasted"] > 0
        assert seen["prefetch_unused_bytes"] <= seen["prefetch_needed_bytes"] + (1 << 20)


def test_programs_of_the_local_disk_are_known_by_the_first_file_that_they_read(site: Site) -> None:
    def read(point: Path) -> None:
        # As a shell that runs a program of the machine on files of the repository, over a line.
        first, rest = (point / "common" / "part-00").as_posix(), (point / "use-one").as_posix()
        script = f"cat {first}/*; sleep 0.3; cat {rest}/*/*"
        subprocess.run(["sh", "-c", script], check=True, capture_output=True, timeout=LIMIT_S, start_new_session=True)

    with site.mounted() as point:
        read(point)
    (trace,) = site.known()["traces"]
    assert (trace["trigger"], trace["files"]) == ("/common/part-00/common-0.kind0", OWN)
    site.empty_cache()
    with site.mounted() as point:
        read(point)
        assert helped(counters(point)) == OWN


def test_a_program_that_begins_with_another_file_each_time_is_brought_at_its_first(site: Site) -> None:
    def read(point: Path, begin: int) -> None:
        # As a program of the machine that reads a directory in no order.
        files = [point / "use-one" / f"part-{n:02}" / f"use-one-{n}.kind{n}" for n in range(OWN)]
        first, *rest = (path.as_posix() for path in files[begin:] + files[:begin])
        script = f"cat {first}; sleep 0.3; cat {' '.join(rest)}"
        subprocess.run(["sh", "-c", script], check=True, capture_output=True, timeout=LIMIT_S, start_new_session=True)

    with site.mounted() as point:
        read(point, 0)
        read(point, 7)
    (trace,) = site.known()["traces"]
    assert (trace["is_unordered"], trace["files"]) == (True, OWN - 1)
    site.empty_cache()
    with site.mounted() as point:
        read(point, 19)
        seen = counters(point)
        assert (helped(seen), seen["prefetch_traces_wasted"]) == (OWN - 1, 0)


def test_the_catalogs_that_lead_to_what_ran_last_come_with_the_mount(site: Site) -> None:
    with site.publisher.transaction() as tree:
        (tree / ".cvmfsdirtab").write_text("/bin\n/common\n", "ascii")
    with site.mounted() as point:
        run(point, "one")
    for traces, expected in (("no", 0), ("yes", 1)):
        site.empty_cache()
        asked = len(site.running.requests())
        with site.mounted(NEARFS_PREFETCH_TRACES=traces) as point:
            if expected:
                wait_until(functools.partial(was_asked, point), LIMIT_S, "it is asked for")
            assert counters(point)["prefetch_traces_asked"] == expected
            catalogs = [line for line in site.running.requests()[asked:] if str(line["path"]).endswith("C")]
            assert len(catalogs) == 1 + expected, "the root, and that of the program"
            assert (point / "bin" / "tool").is_file()
            assert counters(point)["prefetch_traces_wasted"] == 0


def test_programs_that_run_side_by_side_in_one_group_are_learned_apart(site: Site) -> None:
    for name in ("first", "second"):
        with site.publisher.transaction() as tree:
            shutil.copy(tree / "bin" / "tool", tree / "bin" / name)
    with site.mounted() as point:
        script = f"{point}/bin/first one & {point}/bin/second two & wait"
        subprocess.run(["sh", "-c", script], check=True, capture_output=True, timeout=LIMIT_S, start_new_session=True)
    known = {trace["trigger"]: trace["files"] for trace in site.known()["traces"]}
    assert known == {"/bin/first": FILES, "/bin/second": FILES}


def test_what_a_command_opens_is_recorded_on_request(site: Site) -> None:
    with site.mounted(NEARFS_PREFETCH="no") as point:
        everybody = site.talk("trace begin")
        script = 'read go; exec "$0" one'
        with subprocess.Popen(
            ["sh", "-c", script, point / "bin" / "tool"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        ) as command:
            token = site.talk(f"trace begin {command.pid}")
            assert token.isdigit()
            command.communicate(b"\n", LIMIT_S)
        (point / "use-two" / "part-03" / "use-two-3.kind3").read_bytes()
        recorded = json.loads(site.talk(f"trace end {token}"))
        paths = [item["path"] for item in recorded["items"]]
        assert (len(paths), paths[0], recorded["is_cut"]) == (FILES + 1, "/bin/tool", False)
        assert not any(path.startswith("/use-two") for path in paths)
        assert {item["offsets"] for item in recorded["items"]} == {None}
        assert len(json.loads(site.talk(f"trace end {everybody}"))["items"]) == FILES + 2
        assert site.talk(f"trace end {token}") == f"No recording has the token {token}"
        assert site.talk("trace begin 0").startswith("Usage: ")
