"""Small files that are whole or absent, and nothing else beside them."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nearfs import files
from nearfs.errors import Busy


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "file"
    for content in ("first", b"second"):
        files.replace(target, content, 0o640)
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"second", 0o640)
    with pytest.raises(IsADirectoryError):
        files.replace(tmp_path, "no file")
    assert names(tmp_path) == {"file"}


def test_what_the_dead_left_is_removed_and_the_work_of_the_living_is_not(tmp_path: Path) -> None:
    left, other = tmp_path / ".file.4711.new", tmp_path / ".another.4711.new"
    written = tmp_path / ".file.4712.new"
    for path in (left, other, written):
        path.write_text("part of")
    with written.open("a", encoding="utf-8") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        files.replace(tmp_path / "file", "whole")
    assert names(tmp_path) == {"file", written.name, other.name}


def test_a_file_that_another_process_writes_is_not_taken_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_LOCK_TRIES", 2)
    beside = tmp_path / f".file.{os.getpid()}.new"
    with beside.open("w", encoding="utf-8") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="another process holds a lock on it"):
            files.replace(tmp_path / "file", "whole")
        assert names(tmp_path) == {beside.name}


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    target = tmp_path / "file"

    writes = (
        f"import pathlib, nearfs.files as f\nfor _ in range(50): f.replace(pathlib.Path({str(target)!r}), TEXT * 1000)"
    )
    scripts = [writes.replace("TEXT", repr(letter)) for letter in "abc"]
    running = [subprocess.Popen([sys.executable, "-c", script]) for script in scripts]
    assert [writer.wait(60) for writer in running] == [0, 0, 0]
    assert target.read_text() in {"a" * 1000, "b" * 1000, "c" * 1000}
    assert names(tmp_path) == {"file"}
