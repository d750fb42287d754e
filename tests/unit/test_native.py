"""The extension and Python agree: on kinds of errors, on the version, and on what raises what."""

import pytest

import nearfs
from nearfs import _native, errors


def test_both_languages_have_the_same_kinds() -> None:
    assert _native.error_kinds() == list(errors.KINDS)


def test_both_halves_have_one_version() -> None:
    assert nearfs.__version__ == _native.__VERSION__


def test_engine_errors_arrive_as_their_class(tmp_path: object) -> None:
    with pytest.raises(errors.NotFound) as caught:
        _native.read_object(str(tmp_path), "ab" * 20, suffix="C", limit=100)
    assert "ab" * 20 in str(caught.value) or str(tmp_path) in str(caught.value)
    assert caught.value.operation
    with pytest.raises(errors.Corrupt):
        _native.read_object(str(tmp_path), "no hash", suffix="C", limit=100)
    with pytest.raises(errors.InvalidInput, match="suffix"):
        _native.put_object(str(tmp_path), b"", suffix="Q", hash_algorithm="sha1")


def test_progress_counts_from_zero_and_can_be_cancelled() -> None:
    progress = _native.Progress()
    assert progress.counts() == {"files_total": 0, "files_done": 0, "bytes_total": 0, "bytes_done": 0}
    progress.cancel()
