"""Magic extended attributes: every one of the reference client, on the entries that have it, in its form."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.test_golden_reading import golden_settings
from tests.support.golden import NAMES, Golden
from tests.support.serving import Server

NAME = NAMES[0]
NUMBER, HASH, NOTHING = r"\d+", r"[0-9a-f]{40}", ""
COUNTER_LINES = r"(?:[a-z_]+,\d+\n){12}"

# client.md 5.8: the attributes that any entry has, and what their whole text looks like.
OF_ANY_ENTRY = {
    "catalog_counters": rf"catalog_hash: {HASH}\ncatalog_mountpoint: .*\n{COUNTER_LINES}",
    "expires": NUMBER,
    "external_host": "internal error: no hosts defined",
    "external_timeout": "7",
    "fqrn": re.escape(NAME),
    "hitrate": r"\d+\.\d\d|n/a",
    "host": r"http://127\.0\.0\.1:\d+/cvmfs/.*",
    "host_list": r"http://127\.0\.0\.1:\d+/cvmfs/.*",
    "inode_max": NUMBER,
    "logbuffer": r"(?:\[\d+\] .*\n)*",
    "maxfd": NUMBER,
    "ncleanup24": r"-1|\d+",
    "nclg": NUMBER,
    "ndiropen": NUMBER,
    "ndownload": NUMBER,
    "nioerr": "0",
    "nopen": NUMBER,
    "pid": NUMBER,
    "proxy": "DIRECT",
    "proxy_list": "DIRECT",
    "proxy_list_external": "DIRECT",
    "pubkeys": r"-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----\n",
    "repo_counters": COUNTER_LINES,
    "repo_metainfo": r"metainfo not available|\{.*\}\n?",
    "revision": NUMBER,
    "root_hash": HASH,
    "rx": NUMBER,
    "speed": NUMBER,
    "tag": NOTHING,
    "timeout": "5",
    "timeout_direct": "7",
    "timestamp_last_ioerr": "0",
    "uptime": "0",
    "usedfd": NUMBER,
    "useddirp": NUMBER,
    "version": r"2\.12\.0\.\d+",
}
OF_FILES = {
    "bundle_trigger": "[01]",
    "chunk_list": rf"hash,offset,size\n(?:{HASH},\d+,\d+\n)+",
    "chunks": NUMBER,
    "compression": "zlib|none",
    "direct_io": "[01]",
    "external_file": "[01]",
    "hash": HASH,
    "lhash": f"{HASH}|Not in cache",
}


@pytest.fixture
def point(golden: Golden, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path) -> Path:
    """The first golden repository, with attributes listed at the root only."""
    settings = golden_settings(golden, NAME, server(golden.repositories[NAME].root).url, tmp_path / "cache")
    visible = {"CVMFS_MAGIC_XATTRS_VISIBILITY": "rootonly", "CVMFS_TIMEOUT_DIRECT": "7", "CVMFS_QUOTA_LIMIT": "2000"}
    return mount(NAME, {**settings, **visible})


def text(path: Path, name: str) -> str:
    """Returns an attribute of an entry itself."""
    return os.getxattr(path, f"user.{name}", follow_symlinks=False).decode()


def test_every_attribute_has_the_form_of_the_reference(point: Path) -> None:
    hello = point / "hello.txt"
    assert text(hello, "lhash") == "Not in cache"
    assert hello.read_bytes()
    for path in (point, hello, point / "links"):
        for name, form in OF_ANY_ENTRY.items():
            assert re.fullmatch(form, text(path, name), re.DOTALL if name == "repo_metainfo" else 0), (path, name)
    for name, form in OF_FILES.items():
        assert re.fullmatch(form, text(hello, name)), name
        with pytest.raises(OSError, match="No data available"):
            text(point, name)
    assert text(hello, "lhash") == text(hello, "hash")
    # Linux keeps the names `user.*` from symlinks; that is what the other name is for.
    assert b"$(" in os.getxattr(point / "links" / "var", "xfsroot.rawlink", follow_symlinks=False)
    for absent in ("authz", "external_url", "no_such", "hash~x"):
        with pytest.raises(OSError, match="No data available"):
            text(point, absent)


def test_they_are_listed_at_the_root_only(point: Path) -> None:
    assert {name for name in os.listxattr(point) if name.startswith("user.")} == {f"user.{n}" for n in OF_ANY_ENTRY}
    assert os.listxattr(point / "hello.txt") == []


def test_long_attributes_come_in_pages(point: Path) -> None:
    whole = text(point, "pubkeys")
    assert text(point, "pubkeys~0") == whole
    assert text(point, "pubkeys~?") == "num_pages, 1"
    title, _, rest = text(point, "pubkeys@0").partition("\n")
    assert title.startswith("# ")
    assert rest == whole
    assert "pubkeys@N" in text(point, "pubkeys@?")
    with pytest.raises(OSError, match="No data available"):
        text(point, "pubkeys~1")


def test_protected_attributes_are_for_some_groups_only(
    golden: Golden, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    settings = golden_settings(golden, NAME, server(golden.repositories[NAME].root).url, tmp_path / "cache")
    settings |= {"CVMFS_XATTR_PROTECTED_XATTRS": "user.pubkeys,user.proxy", "CVMFS_XATTR_PRIVILEGED_GIDS": "4711"}
    for loop in ("native", "python"):
        own = {"CVMFS_CACHE_BASE": str(tmp_path / loop)}
        point = mount(NAME, settings | own, options=(f"loop={loop}",))

        def asked_by(gid: int, name: str, point: Path = point) -> bool:
            """Says whether a process of this primary group, and of no other, reads the attribute."""
            script = f"import os; print(len(os.getxattr({str(point)!r}, {name!r})))"
            command = ["setpriv", f"--regid={gid}", "--clear-groups", sys.executable, "-c", script]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0 or "No data available" in done.stderr, done.stderr
            return done.returncode == 0

        for name in ("user.pubkeys", "user.pubkeys~0", "user.proxy"):
            assert [asked_by(gid, name) for gid in (0, 4711, 4712)] == [True, True, False], name
        assert asked_by(4712, "user.host")


def test_the_size_of_the_file_system_is_that_of_the_cache(point: Path) -> None:
    before = os.statvfs(point)
    assert before.f_frsize == 512
    assert before.f_blocks * 512 == 2000 << 20
    assert 0 < before.f_ffree < before.f_files
    for path in point.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.read_bytes()
    after = os.statvfs(point)
    assert after.f_bfree < before.f_bfree
