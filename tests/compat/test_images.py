"""`nearfs image`: layers become root file systems, each layer once, and go away with the last image that has them."""

import contextlib
import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.format import check, manifest
from tests.support import processes
from tests.support.container_images import Layer, layer, layout, saved
from tests.support.publishing import Publisher
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(240)]

BASE = layer(
    {
        "bin/": ("5", 0o755, None),
        "bin/su": ("0", 0o4755, b"#!/bin/sh\n"),
        "bin/sh": ("0", 0o755, b"shell" * 10_000),
        "bin/ash": ("1", 0o755, "bin/sh"),
        "etc/": ("5", 0o755, None),
        "etc/gone": ("0", 0o600, b"secret"),
        "etc/kept": ("0", 0o644, b"kept"),
        "opt/": ("5", 0o1777, None),
        "opt/old/": ("5", 0o755, None),
        "opt/old/file": ("0", 0o644, b"old"),
        "dev/null": ("3", 0o666, None),
        "lib": ("2", 0o777, "usr/lib"),
    }
)
UPPER = layer(
    {
        "etc/.wh.gone": ("0", 0o600, b""),
        "etc/new": ("0", 0o640, b"new"),
        "opt/old/": ("5", 0o750, None),
        "opt/old/.wh..wh..opq": ("0", 0o600, b""),
        "opt/old/young": ("0", 0o644, b"young"),
        "srv/unsaid/file": ("0", 0o644, b"nobody said srv"),
    }
)
OTHER = layer({"etc/other": ("0", 0o644, b"other")})


def image(publisher: Publisher, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nearfs.cli.main", "image", *words]
    return processes.run(command, check=check, limit=100, env=publisher.environment, cwd=Path("/"))


def unpacked(publisher: Publisher, source: Path, *words: str) -> dict[str, Any]:
    done = image(publisher, "unpack", "--json", source, publisher.fqrn, "--platform", "linux/amd64", *words)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def accepted(publisher: Publisher) -> None:
    assert check.check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn) == []
    assert publisher.server("check", "-i", publisher.fqrn).stdout.rstrip().endswith("no problems found")


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()} - {".cvmfscatalog"}


def test_images_share_layers_and_take_them_along(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create("-z")
    digest = layout(tmp_path / "first", [BASE, UPPER])
    first = unpacked(publisher, tmp_path / "first", "--name", "registry.example.org:5000/group/first:1.0")
    assert (first["digest"], first["name"]) == (digest, "registry.example.org:5000/group/first:1.0")
    assert first["revision"] > 1

    link = publisher.union / "registry.example.org:5000" / "group" / "first:1.0"
    assert os.readlink(link) == f"../../.flat/{digest[:2]}/{digest}"
    root = link.resolve()
    assert names(root) == {"bin", "etc", "opt", "dev", "lib", "srv"}
    assert names(root / "etc") == {"kept", "new"}
    assert names(root / "opt" / "old") == {"young"}
    assert (root / "bin" / "ash").read_bytes() == b"shell" * 10_000
    modes = {
        name: oct(stat.S_IMODE((root / name).lstat().st_mode))
        for name in ("bin/su", "opt", "opt/old", "etc/new", "srv", "srv/unsaid", ".")
    }
    assert modes == {
        "bin/su": "0o4755", "opt": "0o1777", "opt/old": "0o750", "etc/new": "0o640",
        "srv": "0o755", "srv/unsaid": "0o755", ".": "0o755",
    }  # fmt: skip
    assert {(root / name).lstat().st_uid for name in ("srv", "srv/unsaid", ".", "bin/su", ".cvmfscatalog")} == {0}
    null = (root / "dev" / "null").lstat()
    assert (stat.S_ISCHR(null.st_mode), null.st_rdev) == (True, os.makedev(1, 3))
    assert os.readlink(root / "lib") == "usr/lib"
    accepted(publisher)

    # The second image begins with the same layer, and comes as another kind of archive.
    saved(tmp_path / "second.tar", [BASE, OTHER, OTHER], "second:latest")
    told = image(publisher, "unpack", tmp_path / "second.tar", publisher.fqrn).stdout
    assert "Unpacking layer 1 of 2" in told, "the base is there"
    assert f"sha256:{BASE.diff_id[7:19]}" not in told
    second = publisher.union / "docker.io" / "library" / "second:latest"
    assert names(second / "etc") == {"gone", "kept", "other"}
    again = image(publisher, "unpack", tmp_path / "second.tar", publisher.fqrn).stdout
    assert "is there already" in again

    # The same image under another name, from a tar of the layout: nothing is read again.
    with tarfile.open(tmp_path / "first.tar", "w") as archive:
        archive.add(tmp_path / "first", ".")
    renamed = unpacked(publisher, tmp_path / "first.tar", "--name", "renamed")
    assert renamed["objects_new"] <= 3, "origin.json, and not more than what tells of the image"
    listed = json.loads(image(publisher, "ls", "--json", publisher.fqrn).stdout)
    assert [one["name"] for one in listed] == [
        "docker.io/library/renamed:latest", "docker.io/library/second:latest",
        "registry.example.org:5000/group/first:1.0",
    ]  # fmt: skip
    assert listed[0]["digest"] == digest
    assert "docker.io/library/second:latest" in image(publisher, "ls", publisher.fqrn).stdout

    image(publisher, "rm", publisher.fqrn, "registry.example.org:5000/group/first:1.0")
    assert not (publisher.union / "registry.example.org:5000").exists()
    assert names(publisher.union / "docker.io" / "library" / "renamed:latest" / "opt" / "old") == {"young"}
    image(publisher, "rm", publisher.fqrn, "renamed")
    assert not (publisher.union / ".flat" / digest[:2] / digest).exists()
    assert names(second / "etc") == {"gone", "kept", "other"}
    assert len(list((publisher.union / ".chains").glob("*/*"))) == 3
    image(publisher, "rm", publisher.fqrn, "second")
    assert {entry.name for entry in publisher.union.iterdir()} <= {"new_repository", ".cvmfs"}
    accepted(publisher)
    # What was stored on the way is known to garbage collection.
    publisher.server("gc", "-f", "-r", "0", publisher.fqrn)
    assert check.check_repository(publisher.storage, [publisher.public_key.read_bytes()], publisher.fqrn) == []


def test_what_is_no_image_changes_nothing(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    before = manifest.read_manifest(publisher.storage).root_hash

    def refused(source: str | Path, *words: str) -> str:
        done = image(publisher, "unpack", source, publisher.fqrn, "--platform", "linux/amd64", *words, check=False)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        return done.stderr

    name = ("--name", "bad")
    layout(tmp_path / "claimed", [OTHER], diff_ids=[BASE.diff_id])
    assert f"layer {BASE.diff_id} has another content" in refused(tmp_path / "claimed", *name)
    layout(tmp_path / "broken", [Layer(BASE.plain[:40_000])])
    assert "cannot be read" in refused(tmp_path / "broken", *name)
    layout(tmp_path / "out", [layer({"../../up": ("0", 0o644, b"x")})])
    assert "leads out of it" in refused(tmp_path / "out", *name)
    layout(tmp_path / "changed", [OTHER])
    blob = max((tmp_path / "changed" / "blobs" / "sha256").iterdir(), key=lambda path: b"rootfs" in path.read_bytes())
    blob.write_bytes(blob.read_bytes() + b" ")
    assert "has another content" in refused(tmp_path / "changed", *name)
    assert "it has: linux/amd64, linux/m68k" in refused(tmp_path / "out", *name, "--platform", "linux/arm64")
    layout(tmp_path / "zstd", [OTHER])
    for path in (tmp_path / "zstd" / "blobs" / "sha256").iterdir():
        if path.read_bytes().startswith(b"\x1f\x8b"):
            path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    assert "compressed by zstd" in refused(tmp_path / "zstd", *name)
    assert "does not say the name" in refused(tmp_path / "claimed")
    assert "is no name of an image" in refused(tmp_path / "out", "--name", "../../up")
    assert "there is no such file" in refused(tmp_path / "none", *name)
    (tmp_path / "text").write_text("no archive")
    assert "neither an OCI layout nor an archive" in refused(tmp_path / "text", *name)
    removed = image(publisher, "rm", publisher.fqrn, "never", check=False)
    assert "has no image docker.io/library/never:latest" in removed.stderr
    assert manifest.read_manifest(publisher.storage).root_hash == before
    accepted(publisher)


def test_an_unpacking_that_is_killed_leaves_the_old_revision(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    before = manifest.read_manifest(publisher.storage).root_hash
    digest = layout(tmp_path / "image", [BASE, UPPER])
    blobs = tmp_path / "image" / "blobs" / "sha256"
    second = next(path for path in blobs.iterdir() if path.read_bytes() == UPPER.deflated)
    whole = tmp_path / "whole"
    second.rename(whole)
    os.mkfifo(second)
    words = ["unpack", str(tmp_path / "image"), publisher.fqrn, "--platform", "linux/amd64", "--name", "killed"]
    command = [sys.executable, "-m", "nearfs.cli.main", "image", *words]

    def asked_for() -> int | None:
        """Opens the second layer as soon as it is asked for, which is when the first one is stored."""
        with contextlib.suppress(OSError):
            return os.open(second, os.O_WRONLY | os.O_NONBLOCK)
        return None

    with processes.started(command, tmp_path / "log", env=publisher.environment) as unpacking:
        descriptor = wait_until(asked_for, 100, "the second layer is asked for")
        assert descriptor is not None
        os.write(descriptor, whole.read_bytes()[:200])
        unpacking.kill()
        unpacking.wait(30)
        os.close(descriptor)
    assert manifest.read_manifest(publisher.storage).root_hash == before
    accepted(publisher)
    second.unlink()
    whole.rename(second)
    done = image(publisher, *words).stdout
    assert "Unpacking layer 1 of 2" in done, "nothing refers to what the killed one stored"
    assert names(publisher.union / ".flat" / digest[:2] / digest / "etc") == {"kept", "new"}
    accepted(publisher)
