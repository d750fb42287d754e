"""The exception tree: kinds, exit codes, and the start-up codes of cvmfs2."""

from __future__ import annotations

import pickle

import pytest

from nearfs import errors

SPECIFIED_KINDS = [
    "not-found",
    "corrupt",
    "unreachable",
    "untrusted",
    "busy",
    "read-only",
    "invalid-input",
    "permission-denied",
    "no-space",
    "cancelled",
    "unsupported",
    "local-io",
    "internal",
]


def test_kinds_are_the_agreed_ones() -> None:
    assert list(errors.KINDS) == SPECIFIED_KINDS


@pytest.mark.parametrize("kind", SPECIFIED_KINDS)
def test_kind_makes_its_own_class(kind: str) -> None:
    error = errors.from_kind(kind, "text", operation="fetch", subject="x")
    assert type(error) is errors.KINDS[kind]
    assert (error.kind, str(error), error.operation, error.subject) == (kind, "text", "fetch", "x")


def test_unknown_kind_is_internal_and_named() -> None:
    error = errors.from_kind("no-such-kind", "text")
    assert isinstance(error, errors.Internal)
    assert "no-such-kind" in str(error)


def test_exit_codes_differ_by_kind_and_are_failures() -> None:
    codes = [cls.default_exit_code for cls in errors.KINDS.values()]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 256 for code in codes)


def test_verdicts_are_no_os_errors() -> None:
    assert not any(issubclass(cls, OSError) for cls in errors.KINDS.values())
    assert issubclass(errors.InvalidInput, ValueError)


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(errors.Busy("held", operation="lock", subject="y", exit_code=24)))  # noqa: S301
    assert (type(error), str(error), error.exit_code, error.subject) == (errors.Busy, "held", 24, "y")


def test_init_codes_are_complete_and_carry_their_text() -> None:
    assert [int(code) for code in errors.InitCode] == list(range(26))
    assert errors.InitCode(16).text == "file catalog failure"
    line = errors.init_failure_line("Failed to initialize root file catalog", errors.InitCode.CATALOG)
    assert line == "Failed to initialize root file catalog (16 - file catalog failure)"
