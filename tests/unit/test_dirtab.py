"""`.cvmfsdirtab`: wildcards, exclusions, and what is refused."""

import os
from pathlib import Path

import pytest

from nearfs.errors import InvalidInput
from nearfs.publish import dirtab

DIRECTORIES = (
    *("soft/pkg0/1.0", "soft/pkg0/2.0", "soft/pkg3/1.0", "soft/.hidden/1.0", "other/deep/er", "odd*name/x"),
    *("repo/.svn", "repo/a/b.svn"),
)


@pytest.fixture
def tree(tmp_path: Path) -> bytes:
    for name in DIRECTORIES:
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "soft" / "a-file").touch()
    (tmp_path / "soft" / "link").symlink_to("pkg0")
    return os.fsencode(tmp_path)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("/soft/*/*", {"/soft/pkg0/1.0", "/soft/pkg0/2.0", "/soft/pkg3/1.0", "/soft/.hidden/1.0"}),
        ("/soft/*", {"/soft/pkg0", "/soft/pkg3", "/soft/.hidden"}),
        ("# comment\n\n  /soft/pkg?/1.*  \n", {"/soft/pkg0/1.0", "/soft/pkg3/1.0"}),
        ("/soft/*/*\n! /soft/pkg3/*\n", {"/soft/pkg0/1.0", "/soft/pkg0/2.0", "/soft/.hidden/1.0"}),
        ("/repo/*\n/repo/*/*\n! *.svn", {"/repo/a"}),
        ("/soft/*/*\n!/soft/*", set()),
        (r"/odd\*name", {"/odd*name"}),
        ("/other/deep/", {"/other/deep"}),
        ("/no/such/place", set()),
    ],
)
def test_rules_choose_directories(tree: bytes, rules: str, expected: set[str]) -> None:
    assert {path.decode() for path in dirtab.matches(dirtab.parse(rules.encode()), tree)} == expected


@pytest.mark.parametrize("rules", ["relative/path", "/a/[b]\\c", "/same\n!/same", "!", "/a\\"])
def test_invalid_rules_are_refused(rules: str) -> None:
    with pytest.raises(InvalidInput, match=r"invalid \.cvmfsdirtab") as caught:
        dirtab.parse(rules.encode())
    assert caught.value.exit_code == 1
