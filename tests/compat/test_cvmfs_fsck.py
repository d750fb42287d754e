"""`cvmfs_fsck`: damaged objects are found, moved away, and fetched again by the mount that uses the cache."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.test_golden_reading import golden_settings
from tests.support import processes
from tests.support.golden import NAMES, Golden
from tests.support.serving import Server

HASH_SUFFIX = 38
FIXED, NOT_FIXED, TROUBLE, USAGE = 1, 4, 8, 16


def fsck(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    return processes.run([sys.executable, "-m", "nearfs.compat.cvmfs_fsck", *words], check=False)


@pytest.fixture(params=NAMES)
def mounted(
    request: pytest.FixtureRequest,
    golden: Golden,
    server: Callable[[Path], Server],
    mount: Callable[..., Path],
    tmp_path: Path,
) -> tuple[Path, Path]:
    """Mounts a golden repository (SHA-1, SHAKE-128), reads all of it, and returns mount point and cache."""
    name = request.param
    settings = golden_settings(golden, name, server(golden.repositories[name].root).url, tmp_path / "cache")
    point = mount(name, settings | {"CVMFS_QUOTA_LIMIT": "4000"})
    for path in point.rglob("*"):
        if path.is_file():
            path.read_bytes()
    return point, tmp_path / "cache" / name


def test_a_sound_cache_is_sound(mounted: tuple[Path, Path]) -> None:
    _, cache = mounted
    objects = sum(1 for _ in cache.glob("??/*"))
    done = fsck("-v", "-p", "-j", "4", cache)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"Verified {objects} files"
    assert (cache / "cachedb").exists()


def test_damage_is_named_mended_and_fetched_again(mounted: tuple[Path, Path]) -> None:
    point, cache = mounted
    content = {path: path.read_bytes() for path in point.rglob("*") if path.is_file()}
    objects = sorted((path for path in cache.glob("??/*") if path.stat().st_size > 100), key=lambda path: path.name)
    changed, short, temporary = objects[0], objects[1], objects[2].with_name(f"{objects[2].name[:36]}zzT")
    changed.chmod(0o600)
    changed.write_bytes(b"X" + changed.read_bytes()[1:])
    short.chmod(0o600)
    short.write_bytes(short.read_bytes()[:-1])
    temporary.write_bytes(b"left over")
    damaged = {f"{path.parent.name}/{path.name}" for path in (changed, short, temporary)}

    told = fsck(cache)
    assert told.returncode == NOT_FIXED
    assert {line.split()[1] for line in told.stderr.splitlines()} == damaged
    assert "delete this file from cache directory!" in told.stderr

    mended = fsck("-p", "-j", "3", cache)
    assert mended.returncode == FIXED
    assert mended.stdout.count("is corrupted, moved to quarantaine folder") == len(damaged)
    assert "Fix: managed cache db unlinked, will be rebuilt on next mount" in mended.stdout
    assert not changed.exists()
    assert {path.name for path in (cache / "quarantaine").iterdir()} >= {
        f"{p.parent.name}{p.name}" for p in (changed, short)
    }
    assert fsck(cache).returncode == 0
    Path("/proc/sys/vm/drop_caches").write_text("3")
    assert {path: path.read_bytes() for path in content} == content


def test_what_cannot_be_checked_is_said(tmp_path: Path) -> None:
    assert fsck().returncode == USAGE
    assert fsck("-j", "x", tmp_path).returncode == USAGE
    assert fsck(tmp_path / "none").returncode == TROUBLE
    done = fsck(tmp_path)
    assert done.returncode == TROUBLE
    assert "this is no cache directory" in done.stderr
