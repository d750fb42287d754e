"""Reads kept results back: nothing of a file is believed before it was looked at.

Owns the checks of schema 1 (`bench.harness.result`). Computes no figure. Single-threaded.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from bench.harness.result import SCHEMA, Cell, LineKey

MAX_FILE_BYTES = 64 << 20
MAX_CELLS = 100_000
MAX_SAMPLES = 10_000  # of one cell
MAX_TEXT = 2_000  # characters of one note or one value of the machine block
MAX_NUMBER = 1e18  # 30 years in nanoseconds, an exabyte: what is larger was never measured

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_FIGURE = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")
_LINE_FIGURES = ("rtt_ms", "rate_mbit", "loss")

CellKey = tuple[str, str, str, LineKey | None]


class UnreadableResult(Exception):
    """A file is no result that can be used; the text says which, why and what to do."""


@dataclass
class Result:
    """One measurement run, or several that were joined.

    `machine` is the block of `machine.machine_block`, `lines` holds what was asked of each line and what it measured,
    `absent` the contenders that were not there and why.
    """

    names: list[str]
    machine: dict[str, Any]
    profile: str
    took_s: float | None
    lines: list[dict[str, Any]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    absent: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def key_of(cell: Cell) -> CellKey:
    """Returns what tells a cell from every other of its result."""
    return cell.scenario, cell.contender, cell.state, cell.line


def read_result(path: Path) -> Result:
    """Returns the result kept at `path`; raises `UnreadableResult` when it is missing, damaged or something else."""
    document = _document(path)
    if "schema" not in document:
        raise UnreadableResult(
            f"{path} was written before results had a schema: it can be read by people only; measure again"
        )
    if document["schema"] != SCHEMA:
        raise UnreadableResult(
            f"{path} has schema {str(document['schema'])[:20]}, and this version reads schema {SCHEMA}: use the "
            "version that wrote it, or measure again"
        )
    try:
        return _result(path.name, document)
    except _DamagedError as found:
        raise UnreadableResult(f"{path} is damaged: {found}; measure again, or take it from a backup") from None


class _DamagedError(Exception):
    """A part of a result is not what the schema says."""


def _document(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file of bounded size."""
    try:
        with path.open("rb") as source:
            content = source.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableResult(f"{path} cannot be read ({error.strerror}): check the name") from None
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableResult(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB: no result is; check the name")
    try:
        # NaN and Infinity are no JSON; a parser of Python's takes them all the same.
        document = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UnreadableResult(f"{path} is no JSON ({str(error)[:200]}): is it a result of this suite?") from None
    if not isinstance(document, dict):
        raise UnreadableResult(f"{path} is JSON, but no result of this suite")
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _result(name: str, document: dict[str, Any]) -> Result:
    cells = [_cell(value, f"cell {number}") for number, value in enumerate(_list(document, "cells", MAX_CELLS))]
    keys = [key_of(cell) for cell in cells]
    if len(set(keys)) != len(keys):
        raise _DamagedError("it has a cell twice")
    absent = [_entry(value, "an absent contender") for value in _list(document, "absent", MAX_CELLS, optional=True)]
    lines = [_entry(value, "a line") for value in _list(document, "lines", MAX_CELLS, optional=True)]
    return Result(
        [name],
        {key: _scalar(value, f"machine.{key}") for key, value in _entry(document.get("machine"), "`machine`").items()},
        _text(document.get("profile", "custom"), "`profile`"),
        _number(document.get("took_s"), "`took_s`"),
        [{key: _scalar(value, f"a line's {key}") for key, value in line.items()} for line in lines],
        cells,
        [(_name(entry.get("contender"), "an absent contender"), _text(entry.get("why"), "`why`")) for entry in absent],
    )


def _cell(value: Any, where: str) -> Cell:
    cell = _entry(value, where)
    line = [_number(cell.get(name), f"{name} of {where}") for name in _LINE_FIGURES]
    known = [figure for figure in line if figure is not None]
    if len(known) not in {0, len(line)} or any(figure < 0 for figure in known):
        raise _DamagedError(f"{where} names half a line, or one that cannot be")
    notes = [_text(note, f"a note of {where}") for note in _list(cell, "notes", MAX_SAMPLES, optional=True)]
    return Cell(
        _name(cell.get("scenario"), f"scenario of {where}"),
        _name(cell.get("contender"), f"contender of {where}"),
        _name(cell.get("state"), f"state of {where}"),
        LineKey(*known) if known else None,
        [_sample(sample, where) for sample in _list(cell, "samples", MAX_SAMPLES)],
        notes,
    )


def _sample(value: Any, where: str) -> dict[str, Any]:
    sample = dict(_entry(value, f"a sample of {where}"))
    for figure, measured in sample.items():
        if _FIGURE.fullmatch(figure) is None:
            raise _DamagedError(f"a sample of {where} has a figure without a proper name")
        if figure != "histogram":
            _number(measured, f"{figure} of {where}")
    if sample.get("histogram") is not None:
        for bucket in _list(sample, "histogram", MAX_SAMPLES):
            if not isinstance(bucket, list) or [_number(n, "a bucket") is None for n in bucket] != [False, False]:
                raise _DamagedError(f"the histogram of {where} has a bucket that is no pair of numbers")
            if min(bucket) < 0:
                raise _DamagedError(f"the histogram of {where} has a negative bucket")
    return sample


def _entry(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _DamagedError(f"{what} is no object")
    return cast("Mapping[str, Any]", value)


def _list(holder: Mapping[str, Any], name: str, limit: int, *, optional: bool = False) -> list[Any]:
    value = holder.get(name, [] if optional else None)
    if not isinstance(value, list) or len(value) > limit:
        raise _DamagedError(f"`{name}` is no list of at most {limit:,} entries")
    return value


def _number(value: Any, what: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_NUMBER:
        raise _DamagedError(f"{what} is no number that could have been measured")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise _DamagedError(f"{what} is no text of at most {MAX_TEXT:,} characters")
    return value


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise _DamagedError(f"the {what} is no name of lower-case letters, digits, dots and dashes")
    return value


def _scalar(value: Any, what: str) -> Any:
    if isinstance(value, str):
        return _text(value, what)
    if value is None or isinstance(value, bool):
        return value
    return _number(value, what)
