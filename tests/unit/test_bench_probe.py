"""bench/probe.pyx counts what it did, times it in a histogram that is right, and lets other threads run."""

import ast
import errno
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import build_probe

if TYPE_CHECKING:
    from bench import probe

PROJECT = Path(__file__).resolve().parents[2]
LATENCIES = st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 10**7) | st.integers(0, 200), max_size=60)


@pytest.fixture(scope="module", autouse=True)
def built() -> Path:
    return build_probe.build()


@pytest.fixture(scope="module", name="probe")
def _probe(built: Path) -> ModuleType:
    from bench import probe

    return probe


def counted(latencies: list[int]) -> "probe.Histogram":
    from bench import probe

    histogram = probe.Histogram()
    for latency in latencies:
        histogram.add(latency)
    return histogram


@given(LATENCIES, st.sampled_from((0, 0.1, 10, 50, 90, 99, 99.9, 100)))
def test_percentile_is_the_nearest_rank_or_at_most_a_bucket_above(latencies: list[int], percent: float) -> None:
    histogram = counted(latencies)
    if not latencies:
        assert histogram.percentile(percent) == 0
        return
    rank = max(1, math.ceil(round(percent * len(latencies) / 100, 9)))
    exact = sorted(latencies)[rank - 1]
    assert exact <= histogram.percentile(percent) <= exact + exact // 32


@given(LATENCIES)
def test_histogram_counts_as_plain_python_does(latencies: list[int]) -> None:
    histogram = counted([latency >> 8 for latency in latencies])  # so that the total fits
    plain = [latency >> 8 for latency in latencies]
    assert histogram.count == len(plain)
    assert histogram.total_ns == sum(plain)
    assert (histogram.min_ns, histogram.max_ns) == ((min(plain), max(plain)) if plain else (0, 0))
    assert histogram.summary()["mean_ns"] == (sum(plain) // len(plain) if plain else 0)
    highest = [top for top, _ in histogram.buckets()]
    assert highest == sorted(set(highest))
    expected = Counter(next(top for top in highest if latency <= top) for latency in plain)
    assert dict(histogram.buckets()) == dict(expected)


@given(LATENCIES, LATENCIES)
def test_merged_histograms_are_those_of_all(first: list[int], second: list[int]) -> None:
    first, second = [latency >> 8 for latency in first], [latency >> 8 for latency in second]
    merged = counted(first)
    merged.merge(counted(second))
    together = counted(first + second)
    assert merged.buckets() == together.buckets()
    assert merged.summary() == together.summary()
    assert merged.total_ns == together.total_ns


def test_buckets_are_narrow_and_reach_the_largest_number() -> None:
    edges = [value + step for power in range(63) for value in (2**power,) for step in (-1, 0, 1) if value + step >= 0]
    for value in [*edges, 2**63 - 1]:
        [(highest, count)] = counted([value]).buckets()
        assert count == 1
        assert value <= highest <= value + value // 32


def test_histogram_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="-1"):
        counted([-1])
    with pytest.raises(ValueError, match="101"):
        counted([1]).percentile(101)


def test_stat_counts_calls_and_errors(probe: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "dangling").symlink_to("nowhere")
    paths = [tmp_path / "file", os.fsencode(tmp_path / "dangling"), str(tmp_path / "none"), tmp_path / "file" / "below"]
    measured = probe.stat(paths)
    assert measured.histogram.count == 2
    assert measured.failures == {errno.ENOENT: 1, errno.ENOTDIR: 1}
    assert measured.failed_histogram.count == 2
    assert probe.stat(paths, follow=True).failures == {errno.ENOENT: 2, errno.ENOTDIR: 1}
    assert len(measured.latencies_ns) == 2
    assert all(latency > 0 for latency in measured.latencies_ns)
    assert sum(measured.latencies_ns) == measured.histogram.total_ns
    assert measured.histogram.total_ns / 1e9 <= measured.total_s


def test_files_are_read_to_the_byte(probe: ModuleType, tmp_path: Path) -> None:
    sizes = (0, 1, 131071, 131072, 131073, 400000)
    paths = [tmp_path / str(size) for size in sizes]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(b"x" * size)
    assert probe.open_read_close(paths).bytes_read == sum(sizes)
    assert probe.open_read_close(paths, first_bytes=131073).bytes_read == sum(min(size, 131073) for size in sizes)
    assert probe.open_read_close(paths, first_bytes=0).bytes_read == 0
    assert probe.first_byte(paths).bytes_read == sum(size > 0 for size in sizes)
    measured = probe.open_read_close([*paths, tmp_path, tmp_path / "none"])
    assert measured.histogram.count == len(sizes)
    assert measured.failures == {errno.EISDIR: 1, errno.ENOENT: 1}


def test_no_descriptor_stays_open(probe: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 5000)
    before = sorted(os.listdir("/proc/self/fd"))
    probe.open_read_close([file, tmp_path])
    probe.first_byte([file, tmp_path])
    probe.readdir([file, tmp_path])
    probe.read_sequential(file, block_bytes=100)
    probe.read_random(file, block_bytes=100, count=3, seed=1)
    with pytest.raises(FileNotFoundError):
        probe.read_sequential(tmp_path / "none", block_bytes=100)
    with pytest.raises(OSError, match="directory"):
        probe.read_sequential(tmp_path / "file" / "below", block_bytes=100)
    assert sorted(os.listdir("/proc/self/fd")) == before
    os.fstat(0)  # a failed open closes nobody else's descriptor


def test_directories_are_listed_to_the_end(probe: ModuleType, tmp_path: Path) -> None:
    for name in range(500):
        (tmp_path / f"{name}").touch()
    measured = probe.readdir([tmp_path, tmp_path / "0", tmp_path / "none"])
    assert measured.entries == 502  # with . and ..
    assert measured.histogram.count == 1
    assert measured.failures == {errno.ENOTDIR: 1, errno.ENOENT: 1}


def test_a_file_is_read_in_blocks(probe: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100_001)
    measured = probe.read_sequential(file, block_bytes=1000)
    assert (measured.histogram.count, measured.bytes_read) == (101, 100_001)
    measured = probe.read_sequential(tmp_path, block_bytes=1000)
    assert (measured.histogram.count, measured.failures) == (0, {errno.EISDIR: 1})


def test_random_reads_are_the_same_for_the_same_seed(probe: ModuleType, tmp_path: Path) -> None:
    size, file = 100_001, tmp_path / "file"
    file.write_bytes(b"x" * size)
    offsets = probe.random_offsets(size, block_bytes=1000, count=5000, seed=7)
    assert offsets == probe.random_offsets(size, block_bytes=1000, count=5000, seed=7)
    assert offsets != probe.random_offsets(size, block_bytes=1000, count=5000, seed=8)
    assert set(offsets) == set(range(0, size, 1000))  # every block comes up
    measured = probe.read_random(file, block_bytes=1000, count=5000, seed=7)
    assert measured.histogram.count == 5000
    assert measured.bytes_read == sum(min(1000, size - offset) for offset in offsets)


def test_wrong_arguments_are_refused(probe: ModuleType, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(ValueError, match="NUL"):
        probe.stat([b"a\0b"])
    with pytest.raises(TypeError, match="list of paths"):
        probe.stat("/etc")
    with pytest.raises(ValueError, match="block"):
        probe.read_sequential(empty, block_bytes=0)
    with pytest.raises(ValueError, match="block"):
        probe.read_sequential(empty, block_bytes=1 << 40)
    with pytest.raises(ValueError, match="empty"):
        probe.read_random(empty, block_bytes=1, count=1, seed=1)
    with pytest.raises(ValueError, match="-2"):
        probe.open_read_close([empty], first_bytes=-2)


def test_stub_names_what_there_is(probe: ModuleType) -> None:
    stub = ast.parse((PROJECT / "bench/probe.pyi").read_text("utf-8"))
    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef) and node.name != "Summary"}
    functions = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    own = {name for name, value in vars(probe).items() if name[0] != "_" and not isinstance(value, ModuleType)}
    assert own == set(classes) | functions
    for name, node in classes.items():
        members = {item.name for item in node.body if isinstance(item, ast.FunctionDef)} - {"__init__"}
        assert members == {member for member in vars(getattr(probe, name)) if member[0] != "_"}


def test_clock_costs_less_than_a_millisecond(probe: ModuleType) -> None:
    assert 0 <= probe.clock_cost_ns() < 1_000_000


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("stat", {}),
        ("open_read_close", {}),
        ("first_byte", {}),
        ("readdir", {}),
        ("read_sequential", {"block_bytes": 1}),
        ("read_random", {"block_bytes": 1, "count": 200_000, "seed": 1}),
    ],
)
def test_other_threads_run_while_it_measures(
    probe: ModuleType, tmp_path: Path, verb: str, arguments: dict[str, int]
) -> None:
    """With so long a switch interval, only who gives the interpreter up lets another thread run."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 200_000)
    target: Any = {"read_sequential": file, "read_random": file, "readdir": [tmp_path] * 20_000}.get(
        verb, [file] * 20_000
    )
    rounds, running, stopped = [0], threading.Event(), threading.Event()

    def count() -> None:
        while not stopped.is_set():
            rounds[0] += 1
            running.set()
            time.sleep(0)

    interval = sys.getswitchinterval()
    other = threading.Thread(target=count)
    try:
        sys.setswitchinterval(30)
        other.start()
        running.wait(10)
        before = rounds[0]
        getattr(probe, verb)(target, **arguments)
        during = rounds[0] - before
    finally:
        stopped.set()
        sys.setswitchinterval(interval)
        other.join()
    assert during > 10


def test_interrupt_ends_a_measurement(tmp_path: Path) -> None:
    """A list of paths that would take minutes ends with the signal."""
    script = (
        "import signal, threading, _thread, time; from bench import probe\n"
        "threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT)).start()\n"
        "begun = time.monotonic()\n"
        "try: probe.read_random('/etc/passwd', block_bytes=1, count=1 << 40, seed=1)\n"
        "except KeyboardInterrupt: print(time.monotonic() - begun < 10)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "True\n", done.stderr
