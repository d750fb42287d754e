"""A second revision: only what changed is new, every kind of change arrives, and the tags are the format's."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.format import check, manifest
from tests.format.objects import referenced, unreferenced_objects
from tests.support.publishing import Publisher
from tests.support.serving import Server

pytestmark = pytest.mark.timeout(180)


def root_of(publisher: Publisher) -> str:
    """Returns the root hash that is served."""
    return manifest.read_manifest(publisher.storage).root_hash.text


def accepted(publisher: Publisher) -> None:
    """Asks both checkers: ours and the independent one."""
    problems = check.check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn)
    assert problems == []
    assert publisher.server("check", "-i", publisher.fqrn).stdout.rstrip().endswith("no problems found")


def test_only_changed_objects_and_catalogs_on_their_way_are_new(publisher: Publisher) -> None:
    publisher.create()
    with publisher.transaction() as union:
        for package in ("a", "b", "b/inner"):
            (union / package).mkdir()
            (union / package / ".cvmfscatalog").touch()
            (union / package / "file").write_text(f"content of {package}\n")
    before = referenced(publisher.storage, root_of(publisher))
    with publisher.transaction() as union:
        (union / "b" / "inner" / "file").write_text("changed\n")
    after = referenced(publisher.storage, root_of(publisher))
    new = sorted(suffix for _, suffix in after - before)
    assert new == ["", "C", "C", "C"], "one file, the catalogs of /b/inner and /b, the root catalog"
    catalogs = {text for text, suffix in before & after if suffix == "C"}
    assert len(catalogs) == 1, "the catalog of /a keeps its hash"
    accepted(publisher)
    assert unreferenced_objects(publisher.storage) == []


def test_tags_follow_each_publish(publisher: Publisher) -> None:
    publisher.create()
    tags = publisher.tags()
    assert tags["trunk"][2] == "1"
    assert "trunk-previous" not in tags
    first = tags["trunk"][0]
    with publisher.transaction("-a", "mine", "-m", "words of mine") as union:
        (union / "x").touch()
    tags = publisher.tags()
    assert tags["trunk"][0] == root_of(publisher)
    assert tags["trunk"][2] == "2"
    assert tags["trunk-previous"][0] == first
    assert tags["mine"][0] == tags["trunk"][0]
    assert tags["mine"][4:] == ["(default)", "words", "of", "mine"]
    assert sum(name.startswith("generic-") for name in tags) == 1, "a named publish makes no automatic tag"
    refused = publisher.server("tag", "-r", "trunk", "-f", publisher.fqrn, check=False)
    assert refused.returncode == 1
    assert "undo tags are handled internally" in refused.stderr


def test_every_kind_of_change_arrives(
    publisher: Publisher, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher.create()
    publisher.configure({"CVMFS_INCLUDE_XATTRS": "true", "CVMFS_ENABLE_MTIME_NS": "true"})
    with publisher.transaction() as union:
        for name in ("gone", "replaced", "renamed", "moded", "attributed", "kept"):
            (union / name).write_text(f"{name}\n")
        for name in ("gone-tree/deep", "dir-to-file/below", "renamed-dir/below", "opaque/old"):
            (union / name).mkdir(parents=True)
            (union / name / "leaf").write_text(name)
        (union / "gone-tree" / "deep" / ".cvmfscatalog").touch()
        (union / "unmarked").mkdir()
        (union / "unmarked" / ".cvmfscatalog").touch()
        (union / "unmarked" / "inside").write_text("moves to the parent catalog")
        (union / "file-to-dir").write_text("a file")
        (union / "link").symlink_to("kept")
        os.setxattr(union / "attributed", "user.old", b"1")
    with publisher.transaction() as union:
        (union / "gone").unlink()
        shutil.rmtree(union / "gone-tree")
        (union / "replaced").unlink()
        (union / "replaced").write_text("new content")
        (union / "renamed").rename(union / "other-name")
        os.chown(union / "moded", 12, 34)
        (union / "moded").chmod(0o4711)
        os.removexattr(union / "attributed", "user.old")
        os.setxattr(union / "attributed", "user.new", b"\x00\xff")
        shutil.rmtree(union / "dir-to-file")
        (union / "dir-to-file").write_text("now a file")
        (union / "file-to-dir").unlink()
        (union / "file-to-dir" / "x").mkdir(parents=True)
        shutil.copytree(union / "renamed-dir", union / "moved-dir")
        shutil.rmtree(union / "renamed-dir")
        shutil.rmtree(union / "opaque")
        (union / "opaque").mkdir()
        (union / "opaque" / "fresh").write_text("only this")
        (union / "unmarked" / ".cvmfscatalog").unlink()
        (union / "link").unlink()
        (union / "link").symlink_to("replaced")
        os.utime(union / "kept", ns=(1, 1_500_000_000_123_456_789))
    accepted(publisher)
    point = mount(publisher.fqrn, publisher.client_settings(server(publisher.storage.parent).url, tmp_path / "cache"))
    assert {entry.name for entry in point.iterdir()} == {
        *("attributed", "dir-to-file", "file-to-dir", "kept", "link", "moded", "moved-dir", "new_repository"),
        *("opaque", "other-name", "replaced", "unmarked"),
    }
    assert (point / "replaced").read_text() == "new content"
    assert (point / "other-name").read_text() == "renamed\n"
    moded = (point / "moded").stat()
    assert (moded.st_mode & 0o7777, moded.st_uid, moded.st_gid) == (0o4711, 12, 34)
    assert os.getxattr(point / "attributed", "user.new") == b"\x00\xff"
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(point / "attributed", "user.old")
    assert (point / "dir-to-file").read_text() == "now a file"
    assert (point / "file-to-dir" / "x").is_dir()
    assert (point / "moved-dir" / "below" / "leaf").read_text() == "renamed-dir/below"
    assert [entry.name for entry in (point / "opaque").iterdir()] == ["fresh"]
    assert (point / "unmarked" / "inside").read_text() == "moves to the parent catalog"
    assert (point / "link").readlink() == Path("replaced")
    assert (point / "kept").stat().st_mtime_ns == 1_500_000_000_123_456_789
    assert point.stat().st_nlink == 2 + 4, "file-to-dir, moved-dir, opaque and unmarked"


def test_an_old_revision_stays_mountable_by_tag_and_hash(
    publisher: Publisher, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher.create()
    with publisher.transaction("-a", "one") as union:
        (union / "version").write_text("1")
    first = root_of(publisher)
    with publisher.transaction("-a", "two") as union:
        (union / "version").write_text("2")
    url = server(publisher.storage.parent).url

    def version(**more: str) -> str:
        cache = tmp_path / f"cache-{'-'.join([*more.values(), *more])[-30:]}"
        return (mount(publisher.fqrn, publisher.client_settings(url, cache, **more)) / "version").read_text()

    assert version() == "2"
    assert version(CVMFS_REPOSITORY_TAG="one") == "1"
    assert version(CVMFS_ROOT_HASH=first) == "1"

    # Where `data/` is guarded, the root catalog lies under another name beside the manifest (format.md 2.6).
    guarded = publisher.storage / "data" / first[:2] / f"{first[2:]}C"
    guarded.rename(publisher.storage / f".cvmfsalt-{first}C")
    assert version(CVMFS_ROOT_HASH=first, CVMFS_ALT_ROOT_PATH="yes") == "1"
