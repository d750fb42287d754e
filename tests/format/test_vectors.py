"""The test vectors of the specification's section 14, and the limits around them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

import pytest

from .catalog import Row
from .chunks import cut_marks
from .errors import FormatError
from .hashes import digest_of, parse_hash, path_hash
from .store import inflate
from .symlinks import expand_target
from .xattrs import build_xattrs, parse_xattrs

MIB = 1 << 20


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", (338333539836370388, 9098107892288553193)),
        (b"/foo", (5745132282796244766, -5819618580357280866)),
        (b"/foo/bar", (-2822516800166431715, 9048809318629099454)),
        (b"/needs_migration", (2409901422405569183, 2813813991256840431)),
    ],
)
def test_path_hash_is_the_split_md5(path: bytes, expected: tuple[int, int]) -> None:
    assert path_hash(path) == expected


@pytest.mark.parametrize(
    ("algorithm", "stored", "text"),
    [
        ("sha1", "789c030000000001", "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78"),
        ("rmd160", "789c030000000001", "fcdb20b894f31f1306d56294c049ca7293dde0fc-rmd160"),
        ("shake128", "789c030000000001", "28d94b83b7229b331fc601362b8e272e02665122-shake128"),
        ("sha1", "789ccb48cdc9c95728cf2fca49e102001e720467", "ff049c626904064d641feca0e9936e5b211807c6"),
        ("sha1", b"hello world\n".hex(), "22596363b3de40b06f981fb85d82312e8c0ed511"),
    ],
)
def test_object_hash_is_over_stored_bytes(algorithm: str, stored: str, text: str) -> None:
    assert digest_of(algorithm, bytes.fromhex(stored)).text == text
    assert parse_hash(text, "vector") == digest_of(algorithm, bytes.fromhex(stored))


@pytest.mark.parametrize("content", [b"", b"hello world\n"])
def test_stored_bytes_are_one_zlib_stream(content: bytes) -> None:
    assert inflate(zlib.compress(content), len(content), "object") == content
    with pytest.raises(FormatError, match="behind its zlib stream"):
        inflate(zlib.compress(content) + b"x", len(content), "object")
    with pytest.raises(FormatError, match="truncated"):
        inflate(zlib.compress(content)[:-1], len(content), "object")


def test_inflating_stops_at_the_stated_size() -> None:
    with pytest.raises(FormatError, match="more than 10 bytes"):
        inflate(zlib.compress(bytes(100 * MIB)), 10, "object")


@pytest.mark.parametrize(
    "text", ["", "0" * 39, "d41d8cd98f00b204e9800998ecf8427e", "A" * 40, "0" * 40 + "-sha1", "0" * 40 + "-rmd16x"]
)
def test_other_texts_are_no_content_hashes(text: str) -> None:
    with pytest.raises(FormatError, match="is not the text of a content hash"):
        parse_hash(text, "vector")


def test_xattr_blob_of_the_specification() -> None:
    attributes = {b"security.capability": bytes.fromhex("0100000200040000" + "00" * 12), b"user.a": b"b"}
    blob = bytes.fromhex(
        "0102" "1314" "73656375726974792e6361706162696c697479" "0100000200040000000000000000000000000000"
        "0601" "757365722e61" "62"
    )  # fmt: skip
    assert build_xattrs(attributes) == blob
    assert parse_xattrs(blob, "vector") == attributes
    example = {b"user.aaa": b"", b"user.foo": b"bar"}
    assert build_xattrs(example) == b"\1\2\x08\0user.aaa\x08\3user.foobar"


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (b"", "header"),
        (b"\2\1\1\1ab", "header"),
        (b"\1\1\1\2ab", "truncated"),
        (b"\1\2\1\1ab", "truncated"),
        (b"\1\1\0\0", "empty key"),
        (b"\1\1\0\1b", "empty key"),
        (b"\1\0", "empty list"),
        (b"\1\1\1\1abc", "trailing"),
        (b"\1\2\1\1bx\1\1ay", "sorted"),
        (b"\1\2\1\1ax\1\1ay", "sorted"),
    ],
)
def test_broken_xattr_blob_is_named(blob: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        parse_xattrs(blob, "row")


@pytest.mark.parametrize(
    ("column", "group", "linkcount"), [(4294967298, 1, 2), (12884901890, 3, 2), (5, 0, 5), (1, 0, 1)]
)
def test_hardlinks_column_holds_group_and_linkcount(column: int, group: int, linkcount: int) -> None:
    row = Row((0, 0), (0, 0), column, None, 0, 0o100644, 0, None, 4, b"x", b"", 0, 0, None)
    assert (row.group, row.linkcount) == (group, linkcount)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"target/$(VAR:-dflt)/x", b"target/dflt/x"),
        (b"target/$(SET:-dflt)/x", b"target/here/x"),
        (b"$(EMPTY:-dflt)", b""),
        (b"$(A:-x/y)$(UNSET)$(B:-)", b"x/y"),
        (b"$HOME/$(unclosed", b"$HOME/$(unclosed"),
        (b"end$(", b"end$("),
        (b"$(A:-b:-c)", b"b:-c"),
    ],
)
def test_symlink_variables_expand(target: bytes, expected: bytes) -> None:
    assert expand_target(target, {b"SET": b"here", b"EMPTY": b""}) == expected


def _states(seed: int, count: int) -> Iterator[int]:
    state = seed
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        yield state


SLOW = os.environ.get("NEARFS_SLOW_VECTORS") == "1"
"""A plain Python loop over the whole vectors takes two minutes, so the usual run does their first marks only."""
SEED_1 = [4929237, 10636169, 18409735, 25618460, 32128071, 40937885, 47013309, 58036806, 64880544]
SEED_2 = [6517727, 11225825, 16451092, 28214414, 36526267, 44746347, 56469461, 62471871]
SEED_42_FIRST = [742752, 2790752, 3521796, 4188893, 4940543, 5884591, 7131564, 8520617, 9159233, 9999783, 11202120]
SEED_42_LAST = [101755336, 103405168, 104269441]
SEED_42_COUNT = 104


def _scaled_content(count: int) -> bytes:
    return bytes(int(float(state) * 256 / 2.0**64) & 0xFF for state in _states(42, count))


@pytest.mark.parametrize(("seed", "expected"), [(1, SEED_1), (2, SEED_2)])
def test_cut_marks_of_the_default_sizes(seed: int, expected: list[int]) -> None:
    marks = expected if SLOW else expected[:2]
    content = bytes(state >> 56 for state in _states(seed, 64 * MIB if SLOW else marks[-1] + 1))
    assert cut_marks(content, 4 * MIB, 8 * MIB, 16 * MIB) == marks


def test_first_cut_marks_of_the_scaled_vector_with_a_hard_cut() -> None:
    content = _scaled_content(SEED_42_FIRST[5] + 1)
    assert cut_marks(content, 512000, 1024000, 2048000) == SEED_42_FIRST[:6]


@pytest.mark.skipif(not SLOW, reason="a minute of plain Python: set NEARFS_SLOW_VECTORS=1")
def test_all_cut_marks_of_the_scaled_vector() -> None:
    marks = cut_marks(_scaled_content(104857600), 512000, 1024000, 2048000)
    assert len(marks) == SEED_42_COUNT
    assert marks[: len(SEED_42_FIRST)] == SEED_42_FIRST
    assert marks[-len(SEED_42_LAST) :] == SEED_42_LAST


def test_zeros_are_cut_at_the_maximum_only() -> None:
    assert cut_marks(bytes(40 * 1024), 4096, 8192, 16384) == [16384, 32768]
    assert cut_marks(bytes(32768), 4096, 8192, 16384) == [16384]


@pytest.mark.parametrize("length", [0, 1, 4096])
def test_short_content_is_not_cut(length: int) -> None:
    assert cut_marks(bytes(length), 4096, 8192, 16384) == []
