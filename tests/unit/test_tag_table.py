"""The words of `cvmfs_server tag`: the table for people, the lines for scripts, sizes and times."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from nearfs.cli import output, tag_cmd
from nearfs.errors import InvalidInput
from nearfs.publish import tags

if TYPE_CHECKING:
    from nearfs.records import Tag


def tag(name: str, revision: int, description: str = "", branch: str = "") -> Tag:
    return {
        "name": name,
        "root_hash": "ab" * 20,
        "size": 20480,
        "revision": revision,
        "timestamp": 1_700_000_000 + revision,
        "branch": branch,
        "description": description,
    }


LISTED = [tag("trunk", 12, "current HEAD"), tag("v1", 3, "words of mine", "side")]


def test_the_table_is_the_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert tag_cmd.table_lines(LISTED) == [
        "Name  │ Revision │ Timestamp            │ Branch    │ Description",
        "──────┼──────────┼──────────────────────┼───────────┼─────────────",
        "v1    │        3 │ 14 Nov 2023 22:13:23 │ side      │ words of mine",
        "trunk │       12 │ 14 Nov 2023 22:13:32 │ (default) │ current HEAD",
        "──────┴──────────┴──────────────────────┴───────────┴─────────────",
        "listing contains 2 tags",
    ]


def test_machine_lines_have_the_description_last() -> None:
    assert tag_cmd.machine_lines(LISTED)[1] == f"v1 {'ab' * 20} 20480 3 1700000003 side words of mine"
    assert " (default) " in tag_cmd.machine_lines(LISTED)[0]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 Byte"), (1023, "1023 Byte"), (20480, "20.00 kiB"), (5 << 20, "5.00 MiB"), (3 << 30, "3.00 GiB")],
)
def test_sizes_have_the_references_units(size: int, text: str) -> None:
    assert output.readable_size(size) == text


def test_automatic_names_avoid_those_that_are_taken() -> None:
    moment = time.gmtime(1_700_000_000)
    assert tags.automatic_name(set(), moment) == "generic-2023-11-14T22:13:20Z"
    taken = {"generic-2023-11-14T22:13:20Z"}
    assert tags.automatic_name(taken, moment) == "generic_2-2023-11-14T22:13:20Z"
    taken.add("generic_2-2023-11-14T22:13:20Z")
    assert tags.automatic_name(taken, moment) == "generic_3-2023-11-14T22:13:20Z"


@pytest.mark.parametrize("name", ["with space", "", "umläut", "a\nb", "a$b"])
def test_bad_tag_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        tags.check_name(name)
