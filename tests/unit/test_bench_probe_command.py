"""The command around bench/probe.pyx says what it measured, and the extension is built when it has to be."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import build_probe

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def built() -> Path:
    return build_probe.build()


def command(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.probe_command", *words],
        cwd="/",
        env={"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )


def test_command_prints_one_object(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10)
    (tmp_path / "list").write_bytes(b"%s\n\n/nonexistent\n" % os.fsencode(tmp_path / "file"))
    options = ("--repeat", "3", "--first-bytes", "4", "--latencies", "--json")
    done = command("open_read_close", "--paths-from", tmp_path / "list", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert (found["verb"], found["count"], found["bytes_read"]) == ("open_read_close", 3, 12)
    assert found["failures"] == {"ENOENT": 3}
    assert found["failed"]["count"] == 3
    assert found["min_ns"] <= found["p50_ns"] <= found["p90_ns"] <= found["p99_ns"] <= found["max_ns"]
    assert sum(count for _, count in found["buckets"]) == 3
    assert len(found["latencies_ns"]) == 3


def test_command_reads_lists_from_standard_input() -> None:
    done = command("readdir", "--paths-from", "-", "--null", input="/\0/etc\0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("readdir: 2 calls in ")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("stat",), 2, "no path"),
        (("read_random", "/etc", "/usr"), 2, "one file"),
        (("stat", "/", "--repeat", "0"), 2, "1 or more"),
        (("paint", "/"), 2, "invalid choice"),
        (("read_sequential", "/nonexistent"), 1, "nonexistent"),
        (("read_random", "/dev/null"), 1, "empty"),
        (("stat", "--paths-from", "/nonexistent"), 1, "nonexistent"),
    ],
)
def test_command_says_why_it_did_not_measure(words: tuple[str, ...], code: int, sentence: str) -> None:
    done = command(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_extension_is_built_again_only_when_the_source_changed(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inode = built.stat().st_ino
    assert build_probe.build().stat().st_ino == inode
    monkeypatch.setattr(build_probe, "FLAGS", (*build_probe.FLAGS, "-DANOTHER"))
    monkeypatch.setattr(build_probe, "_run", lambda words: pytest.fail(f"runs {words[2]}"))
    with pytest.raises(pytest.fail.Exception, match="runs cython"):
        build_probe.build()
    monkeypatch.undo()
    assert build_probe.build().stat().st_ino == inode


def test_a_step_that_fails_is_told_with_its_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "probe.pyx"
    source.write_text("cdef int broken(:\n", "utf-8")
    monkeypatch.setattr(build_probe, "SOURCE", source)
    monkeypatch.setattr(build_probe, "WORK", tmp_path / "work")
    with pytest.raises(build_probe.BuildError, match=r"(?s)cython.* ended with 1.*broken"):
        build_probe.build()
    assert not list(tmp_path.glob("*.so*"))
