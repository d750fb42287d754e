"""Container images made by tests: layers from a table, as OCI layouts and as archives of `docker save`.

Owns the forms of the two specifications as far as tests need them. Called from the test's own thread.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Entry = tuple[str, int, bytes | str | None]
"""Type letter of tarfile, mode, and content, target or nothing."""


@dataclass(frozen=True)
class Layer:
    """A tar, and the same deflated."""

    plain: bytes

    @property
    def diff_id(self) -> str:
        return "sha256:" + hashlib.sha256(self.plain).hexdigest()

    @property
    def deflated(self) -> bytes:
        # Several members, as parallel compressors and lazily readable images have them.
        half = len(self.plain) // 2
        return gzip.compress(self.plain[:half], mtime=0) + gzip.compress(self.plain[half:], mtime=0)


def layer(entries: Mapping[str, Entry]) -> Layer:
    """Returns a layer with entries by path, in this order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, (letter, mode, what) in entries.items():
            member = tarfile.TarInfo(path)
            member.type, member.mode, member.mtime = letter.encode(), mode, 1_700_000_000
            if isinstance(what, bytes):
                member.size = len(what)
                archive.addfile(member, io.BytesIO(what))
                continue
            member.linkname = what or ""
            member.devmajor, member.devminor = (1, 3) if letter == "3" else (0, 0)
            archive.addfile(member)
    return Layer(out.getvalue())


def _config(layers: Sequence[Layer], diff_ids: Sequence[str] | None) -> bytes:
    stated = diff_ids or [one.diff_id for one in layers]
    document = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": stated}}
    return json.dumps(document).encode()


def layout(
    folder: Path, layers: Sequence[Layer], *, name: str = "", diff_ids: Sequence[str] | None = None, nested: bool = True
) -> str:
    """Writes an OCI layout, its manifest behind an index of platforms; returns the digest of the manifest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, media: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{media}", "digest": f"sha256:{digest}", "size": len(content)}

    described = [put(one.deflated, "layer.v1.tar+gzip") for one in layers]
    config = put(_config(layers, diff_ids), "config.v1+json")
    content = json.dumps({"schemaVersion": 2, "config": config, "layers": described}).encode()
    manifest = put(content, "manifest.v1+json")
    top = {**manifest, "platform": {"os": "linux", "architecture": "amd64"}}
    if nested:
        other = {**manifest, "platform": {"os": "linux", "architecture": "m68k"}, "digest": "sha256:" + "0" * 64}
        index = {"schemaVersion": 2, "manifests": [other, top]}
        top = put(json.dumps(index).encode(), "index.v1+json")
    if name:
        top["annotations"] = {"org.opencontainers.image.ref.name": name}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    digest: str = manifest["digest"]
    return digest.removeprefix("sha256:")


def saved(file: Path, layers: Sequence[Layer], name: str) -> str:
    """Writes an archive as `docker save` does, a layer that comes twice as a link; returns the image's digest."""
    config = _config(layers, None)
    digest = hashlib.sha256(config).hexdigest()
    paths = [f"{number}/layer.tar" for number in range(len(layers))]
    document = [{"Config": f"{digest}.json", "RepoTags": [name], "Layers": paths}]
    with tarfile.open(file, "w") as archive:
        first: dict[bytes, str] = {}
        for path, one in zip(paths, layers, strict=True):
            member = tarfile.TarInfo(path)
            if one.plain in first:
                member.type, member.linkname = tarfile.SYMTYPE, f"../{first[one.plain]}"
                archive.addfile(member)
                continue
            first[one.plain] = path
            member.size = len(one.plain)
            archive.addfile(member, io.BytesIO(one.plain))
        for path, content in ((f"{digest}.json", config), ("manifest.json", json.dumps(document).encode())):
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return digest
