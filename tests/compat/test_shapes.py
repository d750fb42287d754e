"""What shapes a revision, driven by `cvmfs_server` and server.conf: renames, grafts, limits, the virtual directory."""

import os

import pytest

from tests.format import check
from tests.support import mounts, processes
from tests.support.publishing import Publisher

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]


def _clean(publisher: Publisher) -> None:
    publisher.server("check", "-c", publisher.fqrn)
    assert check.check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn) == []


def _with_redirects(publisher: Publisher) -> None:
    """Mounts the union as a site's own fstab may say."""
    mounts.unmount_lazily(publisher.union)
    spool = publisher.spool
    layers = f"lowerdir={spool}/rdonly,upperdir={spool}/scratch/current,workdir={spool}/ofs_workdir"
    options = f"{layers},nodev,redirect_dir=on,metacopy=on,index=off"
    processes.run(["mount", "-t", "overlay", "-o", options, f"overlay_{publisher.fqrn}", publisher.union])


def test_a_site_that_mounts_with_redirects_and_every_setting(publisher: Publisher) -> None:
    publisher.create()
    publisher.configure({"CVMFS_VIRTUAL_DIR": "true"})
    with publisher.transaction("-a", "v1") as tree:
        (tree / "a" / "sub").mkdir(parents=True)
        (tree / "a" / "sub" / "f").write_text("content")
        (tree / "a" / "sub" / ".cvmfscatalog").touch()
    _clean(publisher)
    assert (publisher.union / ".cvmfs" / "snapshots" / "v1" / "a" / "sub" / "f").read_text() == "content"
    publisher.server("transaction", publisher.fqrn)
    _with_redirects(publisher)
    (publisher.union / "a").rename(publisher.union / "b")
    (publisher.union / "b" / "sub" / "f").chmod(0o600)
    # An object that the repository has, so that the graft can be read and checked.
    stored = os.getxattr(publisher.spool / "rdonly" / "a" / "sub" / "f", "user.hash").decode()
    (publisher.union / ".cvmfsgraft-g").write_text(f"size=7\nchecksum={stored}\n")
    (publisher.union / "g").touch()
    publisher.server("publish", "-a", "v2", publisher.fqrn)
    assert not (publisher.union / "a").exists()
    moved = publisher.union / "b" / "sub" / "f"
    assert (moved.read_text(), moved.stat().st_mode & 0o777) == ("content", 0o600)
    assert (publisher.union / "g").read_text() == "content"
    assert {tag for tag in publisher.tags() if tag.startswith("v")} == {"v1", "v2"}
    assert (publisher.union / ".cvmfs" / "snapshots" / "v1" / "a").is_dir()
    publisher.configure({"CVMFS_VIRTUAL_DIR": "false", "CVMFS_FILE_MBYTE_LIMIT": "1", "CVMFS_ENFORCE_LIMITS": "true"})
    publisher.server("transaction", publisher.fqrn)
    (publisher.union / "g").unlink()
    (publisher.union / "large").write_bytes(b"\0" * (3 << 20))
    refused = publisher.server("publish", publisher.fqrn, check=False)
    assert (refused.returncode, "FATAL: file at /large" in refused.stderr) == (1, True), refused
    (publisher.union / "large").unlink()
    publisher.server("publish", publisher.fqrn)
    assert not (publisher.union / ".cvmfs").exists()
    _clean(publisher)
