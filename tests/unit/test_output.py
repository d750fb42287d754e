"""Printing: plain into a pipe, drawn on a terminal, and quiet when the reader is gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import nearfs
from nearfs.cli import output

HEADINGS = ["name", "revision"]
ROWS = [["trunk", "7"], ["[bold]", "12345678"]]
SOURCE = str(Path(nearfs.__file__).parent.parent)


def test_plain_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(HEADINGS, ROWS)
    assert capsys.readouterr().out == "name    revision\ntrunk   7\n[bold]  12345678\n"


def test_drawn_table_shows_cells_verbatim(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    output.table(HEADINGS, ROWS)
    drawn = capsys.readouterr().out
    assert "[bold]" in drawn
    assert "12345678" in drawn
    assert len(drawn.splitlines()) > len(ROWS) + 1


def test_json_is_sorted_and_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    output.json_document({"b": 1, "a": ["x"]})
    text = capsys.readouterr().out
    assert json.loads(text) == {"a": ["x"], "b": 1}
    assert text.index('"a"') < text.index('"b"')


def test_complaints_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    output.complain("sorry")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "sorry\n")


def test_command_ends_silently_with_its_reader() -> None:
    code = "from nearfs.cli import output\noutput.end_with_reader()\nwhile True: output.line('x' * 1000)"
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": SOURCE}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        complaints = child.stderr.read()
        child.wait(timeout=20)
    assert complaints == b""


def test_the_end_of_a_replication_is_told_from_what_its_files_had_so_far() -> None:
    counts = {"files_total": 200, "files_done": 50, "bytes_total": 0, "bytes_done": 1000}
    assert output._bytes_expected(counts) == 4000
    assert output._bytes_expected({**counts, "bytes_total": 5000}) == 5000
    assert output._bytes_expected({**counts, "files_done": 0}) is None
    assert output._bytes_expected({**counts, "files_total": 0}) is None, "a stream's end is not known"
