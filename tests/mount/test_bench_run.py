"""`python -m bench.run` as `make bench` calls it: a result that can be read, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import run
from bench.harness import enclosure, plan
from bench.harness.results_file import read_result
from nearfs import _native
from tests.support import processes
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(240)]

TOP = Path(__file__).resolve().parent.parent.parent


def command(*words: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "bench.run", "--no-install", *words]


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(TOP)}


def of_run(place: Path) -> list[str]:
    """Returns the command lines of processes that belong to a run below `place`."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and f"NEARFS_BENCH_HOME={place}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended meanwhile
            continue
    return found


def test_a_run_keeps_a_result_and_nothing_else(tmp_path: Path) -> None:
    results = tmp_path / "results"
    words = ["--rtt", "4", "--scenario", "find", "--scenario", "small-opens", "--contender", "nearfs", "--contender"]
    done = processes.run(
        command(*words, "local", "--repeats", "2", "--results", results), env=environment(tmp_path), limit=200
    )
    (kept,) = results.iterdir()
    result = read_result(kept)
    cells = {(cell.scenario, cell.contender, cell.state): cell for cell in result.cells}
    states = {("nearfs", state) for state in ("cold", "seen", "warm", "hot")} | {("local", "cold"), ("local", "hot")}
    assert {key[1:] for key in cells} == states
    assert all(len(cell.samples) == 2 for cell in cells.values())
    small_opens = cells["small-opens", "nearfs", "cold"]
    for sample in small_opens.samples:
        wasted = sum(number for name, number in sample.items() if name.endswith("_wasted"))
        assert sample["requests"] - wasted == 241  # a nested catalog, and an object for each file
        assert sample["server_requests"] == sample["requests"]
    assert small_opens.median("server_bytes") == small_opens.median("fetched_bytes")
    assert cells["small-opens", "nearfs", "hot"].median("requests") == 0
    assert min(small_opens.values("wire_bytes")) > min(small_opens.values("fetched_bytes")) > 100_000
    assert cells["find", "nearfs", "hot"].median("upcalls") is not None
    # A catalog, the files that show what is going on, and those that were fetched ahead meanwhile: what the line
    # emulates is what the program waits for.
    assert min(small_opens.values("wall_s")) > 4 * 0.004 * 0.98
    assert cells["find", "local", "cold"].line is None
    assert "find" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert not of_run(tmp_path)


def test_a_tree_is_published_in_variants_and_programs_start_cold_with_what_was_learned(tmp_path: Path) -> None:
    results = tmp_path / "results"
    names = ("nearfs", "nearfs-packs", "nearfs-off")
    words = ["--rtt", "4", "--scenario", "tar", *(word for name in names for word in ("--contender", name))]
    done = processes.run(command(*words, "--repeats", "1", "--results", results), env=environment(tmp_path), limit=200)
    (kept,) = results.iterdir()
    cells = {(cell.contender, cell.state): cell for cell in read_result(kept).cells}
    states = {(name, state) for name in names[:2] for state in ("cold", "hot", "warm", "seen")}
    assert cells.keys() == states | {("nearfs-off", state) for state in ("cold", "hot", "warm")}
    # The tree with packs has one more nested catalog, so that it costs another number of bytes.
    plain, packs, off = (cells[name, "cold"].samples[0] for name in names)
    assert packs["needed_bytes"] + packs["unused_bytes"] != plain["needed_bytes"] + plain["unused_bytes"]
    assert min(cells["nearfs", "seen"].values("fetched_bytes")) > 500_000, "the cache was empty again"
    assert cells["nearfs", "warm"].median("fetched_bytes") == 0
    assert (plain["prefetch_neighbours_asked"] > 100, off["prefetch_neighbours_asked"]) == (True, 0)
    assert (off["unused_bytes"], off["needed_bytes"] > off["fetched_bytes"]) == (0, True), "the mount's needs count"
    assert "needed_bytes" not in cells["nearfs", "hot"].samples[0]
    assert "in vain" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    words = ["--rtt", "20", "--scenario", "small-opens", "--repeats", "50", "--no-result"]
    with processes.started(command(*words), log, env=environment(tmp_path)) as running:
        wait_until(lambda: any("cvmfs2" in line for line in of_run(tmp_path)), 120, "a client is mounted")
        time.sleep(1)
        running.send_signal(number)
        code = running.wait(40)
    assert code == (-number if number == signal.SIGKILL else 130), log.read_text()
    wait_until(lambda: not of_run(tmp_path), 20, "every process has ended")
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text("utf-8")
    left = [path for path in tmp_path.iterdir() if path.name.startswith("nearfs-bench-")]
    if number != signal.SIGKILL:
        assert not left
        return
    # Nobody was there to remove the directory: the next run does.
    assert len(left) == 1
    done = processes.run(
        command("--rtt", "1", "--scenario", "find", "--repeats", "1", "--no-result"),
        env=environment(tmp_path),
        limit=200,
    )
    assert "find" in done.stdout
    assert not left[0].exists()


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    done = processes.run(command("--scenario", "nonsense"), env=environment(tmp_path), check=False)
    assert (done.returncode, "not known: nonsense; there are: mount" in done.stderr) == (2, True)


def test_a_debug_build_is_refused_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_native, "is_debug_build", lambda: True)
    monkeypatch.setattr(enclosure, "enter", lambda *_: pytest.fail("it went on"))
    with pytest.raises(SystemExit) as ended:
        run.main(["--no-install", "--scenario", "find"])
    assert ended.value.code == 2
    assert "debug build: run `make build` first" in capsys.readouterr().err


def test_the_profiles_name_what_there_is() -> None:
    from bench import scenarios
    from bench.contenders import registry

    for blocks in (plan.quick(), plan.cold(), plan.full()):
        for names, contenders, _, _ in blocks:
            assert not set(names) - set(scenarios.ALL)
            assert not set(contenders) - set(registry.ALL)
        items = plan.items(blocks, scenarios.ALL, registry.ALL)
        cells = [(name, item.contender, item.line) for item in items for name in item.scenarios]
        assert len(cells) == len(set(cells))
    assert subprocess.run(
        [str(w) for w in command("--dry-run", "--profile", "full")],
        cwd=TOP,
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout.count(b"\n") == len(items)
