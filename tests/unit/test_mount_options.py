"""The `-o` list of cvmfs2."""

import pytest

from nearfs.client.options import MountOptions
from nearfs.errors import InitCode, InvalidInput


def test_a_list_as_servers_and_autofs_pass_it() -> None:
    options = MountOptions()
    options.take(
        "allow_other,fsname=lab.example.org,config=/a/b.conf:/c.conf,override=/o,cvmfs_suid,noauto,_netdev,uid=3,gid=4"
    )
    assert options.config_files == ["/a/b.conf", "/c.conf"]
    assert options.override == "/o"
    assert options.fsname == "lab.example.org"
    assert (options.uid, options.gid) == (3, 4)
    assert options.allow_other
    assert options.allow_suid
    assert options.ignored == ["noauto", "_netdev"]


@pytest.mark.parametrize("text", ["nonsense", "uid=x", "gid=-1", "uid=4294967296", "foreground=yes", "loop=x"])
def test_what_nobody_knows_is_an_illegal_option(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        MountOptions().take(text)
    assert caught.value.exit_code == InitCode.OPTIONS


def test_a_loop_is_chosen_by_name_and_a_bare_word_of_mount_is_ignored() -> None:
    options = MountOptions()
    options.take("loop")
    assert (options.python_loop, options.ignored) == (False, ["loop"])
    options.take("loop=python")
    assert options.python_loop
    options.take("loop=native")
    assert not options.python_loop
