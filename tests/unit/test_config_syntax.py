"""Each rule of client.md 1.2, on files that a real shell runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from nearfs.config import syntax
from nearfs.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "INHERITED": "from outside"}


def parse(path: Path, text: str, **environment: str) -> dict[str, str]:
    path.write_text(text)
    parsed = syntax.parse_shell(str(path), {**ENVIRONMENT, **environment})
    assert parsed is not None
    assert parsed.warnings == []
    return parsed.values


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("A=b", ("A", "b")),
        ("  A = b  ", ("A", "b")),
        ("A=b=c", ("A", "b=c")),
        ("A=b # c=d", ("A", "b")),
        ("# A=b", None),
        ("no assignment", None),
        ("export A=b", ("A", "b")),
        ("readonly A=b", ("A", "b")),
        ("eval A=b", ("A", "b")),
        ("export readonly A=b", None),
        ("if [ $A = b ]; then", None),
        ("--option=b", None),
        ("$A=b", None),
        ("=b", None),
        ("", None),
    ],
)
def test_line_defines_a_key(line: str, expected: tuple[str, str] | None) -> None:
    assert syntax.assignment(line) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=plain\n", {"A": "plain"}),
        ("A=no_newline_at_the_end", {"A": "no_newline_at_the_end"}),
        ("A='two  blanks   collapse'\n", {"A": "two blanks collapse"}),
        ('A=x\nB="$A/y"\n', {"A": "x", "B": "x/y"}),
        ("A=$((20 + 3))\n", {"A": "23"}),
        ("A=$(printf 'one\\ntwo\\n')\nset -f\n", {"A": "one two"}),
        ("A='first\\nsecond'\n", {"A": "first"}),
        ("A=early\nA=late\n", {"A": "late"}),
        ("A=${B:=default}\n", {"A": "default"}),
        ("if false; then\n  A=never\nfi\n", {"A": ""}),
        ("if false; then\n  INHERITED=never\nfi\n", {"INHERITED": "from outside"}),
        ("if true; then\n  A=taken\nfi\n", {"A": "taken"}),
        ("A=1; B=2\n", {"A": "1"}),
        ("export A=exported\n", {"A": "exported"}),
        ("readonly A=frozen\n", {"A": "frozen"}),
        ("eval A=evaluated\n", {"A": "evaluated"}),
        ("echo noise\nA=quiet\necho more noise\n", {"A": "quiet"}),
        ("A='-n swallowed option'\nB=next\n", {"A": "swallowed option", "B": "next"}),
        ("A='cut\\crest'\nB=next\n", {"A": "cut", "B": "next"}),
        ("# nothing here\n", {}),
        ("", {}),
    ],
)
def test_shell_value(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    assert parse(tmp_path / "a.conf", text) == expected


def test_value_is_globbed_and_cwd_is_the_directory_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.one").touch()
    (tmp_path / "x.two").touch()
    values = parse(tmp_path / "a.conf", "A='x.*'\nB=$(pwd)\n")
    assert values == {"A": "x.one x.two", "B": str(tmp_path)}


def test_other_files_can_be_sourced(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("HIDDEN=sourced\n")
    assert parse(tmp_path / "a.conf", ". ./other\nA=$HIDDEN\n") == {"A": "sourced"}


def test_bytes_that_are_no_utf8_survive(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_bytes(b"A=caf\xe9\n")
    parsed = syntax.parse_shell(str(tmp_path / "a.conf"), ENVIRONMENT)
    assert parsed is not None
    assert parsed.values["A"].encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_missing_file_is_none(tmp_path: Path) -> None:
    assert syntax.parse_shell(str(tmp_path / "none.conf"), ENVIRONMENT) is None
    assert syntax.parse_simple(str(tmp_path / "none.conf")) is None


@pytest.mark.parametrize("text", ["A=1\nexit 3\n", "A=1\nif true\n", "A='unfinished\n"])
def test_shell_that_ends_early_leaves_keys_empty_and_warns(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.conf"
    path.write_text(text)
    parsed = syntax.parse_shell(str(path), ENVIRONMENT)
    assert parsed is not None
    assert parsed.values == {"A": ""}
    assert len(parsed.warnings) == 1
    assert str(path) in parsed.warnings[0]


def test_shell_that_hangs_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("A=1\nsleep 60\n")
    start = time.monotonic()
    with pytest.raises(InvalidInput, match=r"a\.conf did not finish within 0\.3 seconds"):
        syntax.parse_shell(str(path), ENVIRONMENT, timeout_s=0.3)
    assert time.monotonic() - start < 10


def test_background_child_does_not_hold_up_the_parser(tmp_path: Path) -> None:
    start = time.monotonic()
    assert parse(tmp_path / "a.conf", "sleep 30 &\nA=1\n") == {"A": "1"}
    assert time.monotonic() - start < 10


def test_endless_output_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("A=1\nyes\n")
    with pytest.raises(InvalidInput, match="printed more than"):
        syntax.parse_shell(str(path), ENVIRONMENT)


def test_oversized_file_and_directory_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_bytes(b"#" * (syntax.MAX_FILE_BYTES + 1))
    with pytest.raises(InvalidInput, match="larger than"):
        syntax.parse_shell(str(path), ENVIRONMENT)
    with pytest.raises(InvalidInput, match="cannot read"):
        syntax.parse_shell(str(tmp_path), ENVIRONMENT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=b\n", {"A": "b"}),
        ('A="two  blanks"\n', {"A": "two  blanks"}),
        ("A='b'\n", {"A": "b"}),
        ("A=\"b'\n", {"A": "\"b'"}),
        ('A=""\n', {"A": '""'}),
        ("A=\"'b'\"\n", {"A": "'b'"}),
        ("A=$B\n", {"A": "$B"}),
        ("A=b # comment\n", {"A": "b"}),
    ],
)
def test_simple_syntax(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    (tmp_path / "a.conf").write_text(text)
    parsed = syntax.parse_simple(str(tmp_path / "a.conf"))
    assert parsed is not None
    assert parsed.values == expected
