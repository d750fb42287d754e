"""What owners who are not root need on a machine, and what is said where it is missing."""

import shutil
from pathlib import Path

import pytest

from nearfs.errors import Unsupported
from nearfs.publish import fuse_union


@pytest.mark.parametrize("missing", ["fuse-overlayfs", "fusermount3"])
def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else f"/usr/bin/{name}")
    with pytest.raises(Unsupported, match=f"{missing} is missing.*install the package") as caught:
        fuse_union.check_programs("lab.example.org")
    assert caught.value.exit_code == 1
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    fuse_union.check_programs("lab.example.org")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user_allow_other\n", True),
        ("#user_allow_other\n", False),
        ("mount_max = 9\n user_allow_other \n", True),
        ("", False),
    ],
)
def test_others_may_look_where_fuse_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, expected: bool
) -> None:
    settings = tmp_path / "fuse.conf"
    monkeypatch.setattr(fuse_union, "_SETTINGS", settings)
    assert not fuse_union.lets_others_look()
    settings.write_text(text)
    assert fuse_union.lets_others_look() is expected
