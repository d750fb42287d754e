"""Both sides of every micro benchmark do the same work, and their report says which one is faster."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import micro_report
from bench.micro import conftest
from bench.micro.pairs import PAIRS
from bench.micro.workload import Workload
from nearfs import _native, errors

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    return Workload(tmp_path_factory.mktemp("micro"), directories=6, files=7, scale=4)


@pytest.mark.parametrize("name", PAIRS)
def test_both_sides_answer_the_same(workload: Workload, name: str) -> None:
    pair = PAIRS[name](workload)
    answer = pair.same(pair.ours())
    assert answer
    assert answer == pair.same(pair.theirs())
    assert pair.operations > 0


def test_look_ups_find_some_and_miss_some(workload: Workload) -> None:
    found = PAIRS["catalog look-up"](workload).ours()
    assert 0 < found.count(None) < len(found) / 2
    listed = PAIRS["catalog listing"](workload).ours()
    assert [len(entries) for entries in listed] == [7] * 6


def test_native_content_functions_refuse_what_is_wrong(workload: Workload) -> None:
    content = workload.text(4096)
    stored = _native.deflate(content)
    assert _native.inflate(stored, size=len(content)) == content
    for wrong, size in (
        (stored, len(content) + 1),
        (stored, len(content) - 1),
        (stored[:-1], len(content)),
        (stored + b"x", len(content)),
        (b"", 0),
        (stored, 2**63),
    ):
        with pytest.raises(errors.Corrupt):
            _native.inflate(wrong, size=size)
    with pytest.raises(errors.InvalidInput, match="md4"):
        _native.hash_content(content, hash_algorithm="md4")
    with pytest.raises(errors.InvalidInput, match="choose 32"):
        _native.cut_marks(content, chunk_sizes=(16, 32, 64))
    assert _native.cut_marks(b"x" * 64, chunk_sizes=(32, 48, 64)) == []  # no chunk begins at the end


def test_native_catalog_refuses_what_is_wrong(workload: Workload) -> None:
    catalog = _native.Catalog(workload.catalog)
    assert len(catalog) == 1 + 1 + 6 * 2 + 6 * 7  # root, software, packages and their lib, modules
    assert catalog.find(b"") is not None
    assert catalog.find(b"/none") is None
    with pytest.raises(errors.NotFound, match="/none"):
        catalog.entries(b"/none")
    with pytest.raises(errors.InvalidInput, match="not a directory"):
        catalog.entries(workload.paths[0])
    with pytest.raises(errors.Corrupt):
        catalog.find(b"no/slash")
    damaged = workload.home / "damaged"
    damaged.write_bytes(b"no catalog" * 1000)
    with pytest.raises(errors.Corrupt, match="damaged"):
        _native.Catalog(damaged)


def test_native_cache_tells_missing_from_damaged(workload: Workload, tmp_path: Path) -> None:
    cache = _native.DiskCache(tmp_path / "cache", is_shared=False)
    hash_text, file = workload.cached(tmp_path / "cache", b"content")
    assert cache.read(hash_text, size=7) == b"content"
    assert cache.read("ab" * 20, size=7) is None
    assert cache.read(hash_text, size=8) is None
    assert not file.exists()
    assert [path.read_bytes() for path in (tmp_path / "cache/quarantaine").iterdir()] == [b"content"]
    empty, _ = workload.cached(tmp_path / "cache", b"")
    assert cache.read(empty, size=0) == b""


def test_debug_builds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "is_debug_build", lambda: True)
    with pytest.raises(pytest.UsageError, match="debug build"):
        conftest.pytest_configure()


def alone() -> dict[str, str]:
    """Returns the environment of a run that is no part of ours: as a worker, it would measure nothing."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_XDIST")}


@pytest.mark.timeout(600)
def test_suite_writes_results_that_the_report_reads(tmp_path: Path) -> None:
    if _native.is_debug_build():
        pytest.skip("benchmarks refuse a debug build")
    result = tmp_path / "result.json"
    words = ("bench/micro", "-q", "-k", "cache", "--benchmark-max-time=0.001", "--benchmark-min-rounds=2")
    # Without calibration a busy machine does not make the suite look for a steadier figure.
    quick = ("--benchmark-calibration-precision=1", "--benchmark-min-time=0.000001")
    # A directory of its own: pytest would close the one that our tests share to other users.
    own = ("-p", "no:cacheprovider", "--basetemp", tmp_path / "inner")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *quick, f"--benchmark-json={result}", *own],
        cwd=PROJECT,
        env={**alone(), "PYTHONDONTWRITEBYTECODE": "1", conftest.SCALE: "16"},
        capture_output=True,
        text=True,
        timeout=600,  # how long it takes is the machine's affair; the bound only ends what hangs
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = micro_report.ratios(json.loads(result.read_text("utf-8")))
    assert [one.name for one in found] == ["cache hit, 4 KiB", "cache hit, 1 MiB"]
    assert all(one.low <= one.ratio <= one.high for one in found)


def measured(name: str, side: str, q1: float, median: float, q3: float) -> dict[str, Any]:
    about = {"side": side, "alternative": "zlib", "operations": 10, "content_bytes": 0}
    return {"group": name, "extra_info": about, "stats": {"q1": q1, "median": median, "q3": q3}}


def test_report_names_the_faster_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = {
        "benchmarks": [
            measured("a", "ours", 9, 10, 11),
            measured("a", "theirs", 19, 20, 21),
            measured("b", "theirs", 9, 10, 11),
            measured("b", "ours", 19, 20, 21),
            measured("c", "ours", 9, 10, 11),
            measured("c", "theirs", 9, 10.5, 12),
        ]
    }
    found = micro_report.ratios(document)
    assert [(one.name, one.ratio, one.verdict) for one in found] == [
        ("a", 2.0, "faster"),
        ("b", 0.5, "SLOWER"),
        ("c", 1.05, "even"),
    ]
    assert (found[0].low, found[0].high, found[0].ours_s) == (19 / 11, 21 / 9, 1.0)
    result = tmp_path / "result.json"
    result.write_text(json.dumps(document), "utf-8")
    assert micro_report.main([str(result)]) == 0
    assert "| b | 2,000,000.00 µs | zlib | 1,000,000.00 µs | 0.50 | 0.43 to 0.58 | SLOWER |" in capsys.readouterr().out
    assert micro_report.main([str(result), "--json"]) == 0
    assert [one["verdict"] for one in json.loads(capsys.readouterr().out)["ratios"]] == ["faster", "SLOWER", "even"]


def test_report_refuses_half_a_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"benchmarks": [measured("a", "ours", 1, 1, 1)]}), "utf-8")
    assert micro_report.main([str(result)]) == 1
    assert "run both sides" in capsys.readouterr().err
    assert micro_report.main([str(tmp_path / "none")]) == 1
