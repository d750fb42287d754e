"""Container images as they come: OCI layouts, archives of `docker save`, and registries.

Owns: the forms, the choice of a platform, and checking that manifest and configuration are what their digests say.
Does not own: reading layers (`image_layers`), what becomes of an image (`images`). Nothing here is trusted: sizes are
bounded, digests checked, and names of files are never made of texts of the image.
Threading: one thread. Source: OCI image specification 1.1, Docker image specification 1.2.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from nearfs.errors import Corrupt, InvalidInput, NotFound, Unreachable, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REGISTRY = "docker://"
_DOCUMENT_LIMIT_BYTES = 8 << 20
_LAYERS_LIMIT = 1000
_DEPTH_LIMIT = 3
# Copying a large image over a slow line is no reason to give up; this bounds one that never ends.
_COPY_LIMIT_S = 6 * 3600
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}
_COMPLAINT = re.compile(r'msg="(.*)"')
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True)
class Layer:
    """A layer: the SHA-256 of its tar, and how to open it, as it is or compressed."""

    diff_id: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class Image:
    """An image of one platform. `digest` is its manifest's (that of the configuration where there is no manifest)."""

    digest: str
    name: str
    manifest: bytes
    config: bytes
    layers: tuple[Layer, ...]


def own_platform() -> str:
    """Returns `linux/ARCHITECTURE` of this machine."""
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


@contextlib.contextmanager
def opened(source: str, platform: str) -> Iterator[Image]:
    """Yields the image of a source: a directory, an archive, or `docker://REFERENCE`, which `skopeo` fetches.

    Raises `NotFound`, `InvalidInput`, `Corrupt`, `Unreachable` or `Unsupported`, each naming the source.
    """
    with contextlib.ExitStack() as stack:
        name = ""
        if source.startswith(REGISTRY):
            name = source.removeprefix(REGISTRY)
            source = stack.enter_context(_fetched(source, platform))
        if os.path.isdir(source):
            yield _from_layout(_Directory(Path(source)), source, platform, name)
        else:
            archive = _Archive(stack.enter_context(_archive(source)), source)
            docker = archive.has("manifest.json") and not archive.has("index.json")
            yield _from_docker(archive, source) if docker else _from_layout(archive, source, platform, name)


@contextlib.contextmanager
def _fetched(source: str, platform: str) -> Iterator[str]:
    """Yields a directory with the image of a registry."""
    program = shutil.which("skopeo")
    if program is None:
        message = f"{source}: images of registries are fetched by skopeo, which is not installed (Debian: skopeo)"
        raise NotFound(message, operation="fetch image", subject=source)
    system, _, architecture = platform.partition("/")
    choice = [f"--override-os={system}", f"--override-arch={architecture}", f"--command-timeout={_COPY_LIMIT_S}s"]
    with tempfile.TemporaryDirectory(prefix="nearfs-image-") as scratch:
        command = [program, *choice, "copy", "--quiet", "--", source, f"oci:{scratch}/layout:image"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False, timeout=_COPY_LIMIT_S + 60
            )
        except subprocess.TimeoutExpired:
            raise Unreachable(f"{source}: skopeo does not end", operation="fetch image", subject=source) from None
        if done.returncode:
            said = _COMPLAINT.findall(done.stderr) or done.stderr.strip().splitlines()[-1:]
            message = f"{source}: skopeo: {said[-1] if said else 'failed'}"
            raise Unreachable(message, operation="fetch image", subject=source)
        yield f"{scratch}/layout"


@contextlib.contextmanager
def _archive(source: str) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(source) as archive:
            yield archive
    except FileNotFoundError:
        message = f"{source}: there is no such file or directory"
        raise NotFound(message, operation="open image", subject=source) from None
    except (tarfile.TarError, OSError, EOFError) as error:
        message = f"{source} is neither an OCI layout nor an archive of an image: {error}"
        raise InvalidInput(message, operation="open image", subject=source) from error


class _Directory:
    """The files of an OCI layout."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str) -> BinaryIO:
        try:
            return (self._root / name).open("rb")
        except OSError as error:
            message = f"{self._root} has no {name}: is it an OCI layout? ({error.strerror})"
            raise NotFound(message, operation="open image", subject=str(self._root)) from error


class _Archive:
    """The files of an OCI layout, or of `docker save`, in a tar."""

    def __init__(self, archive: tarfile.TarFile, source: str) -> None:
        self._archive, self._source = archive, source
        self._members = {member.name.removeprefix("./"): member for member in archive.getmembers()}

    def has(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> BinaryIO:
        member = self._members.get(name)
        try:
            # Links, by which `docker save` names a layer twice, are followed inside the archive only.
            opened = None if member is None else self._archive.extractfile(member)
        except KeyError:
            opened = None
        if opened is None:
            message = f"{self._source} has no file {name}: is it an archive of an image?"
            raise NotFound(message, operation="open image", subject=self._source)
        return cast("BinaryIO", opened)


def _from_layout(files: _Directory | _Archive, source: str, platform: str, name: str) -> Image:
    index = _parsed(_read(files, "index.json"), source)
    descriptor = _chosen(files, index, source, platform, 0)
    manifest = _blob(files, descriptor, source)
    document = _parsed(manifest, source)
    config = _blob(files, document.get("config"), source)
    descriptors = document.get("layers")
    if not isinstance(descriptors, list) or len(descriptors) > _LAYERS_LIMIT:
        raise Corrupt(f"{source}: the manifest has no list of layers", operation="read image", subject=source)

    def opening(layer: object) -> Callable[[], BinaryIO]:
        path = f"blobs/sha256/{_digest(layer, source)}"
        return lambda: files.open(path)

    layers = _layers(config, [opening(layer) for layer in descriptors], source)
    return Image(_digest(descriptor, source), name or _name(index, descriptor), manifest, config, layers)


def _from_docker(archive: _Archive, source: str) -> Image:
    content = _read(archive, "manifest.json")
    images = json.loads(content) if content[:1] == b"[" else None
    if not isinstance(images, list) or len(images) != 1:
        message = f"{source} has {len(images) if isinstance(images, list) else 'no'} images; save one at a time"
        raise InvalidInput(message, operation="read image", subject=source)
    image = images[0]
    paths = image.get("Layers") if isinstance(image, dict) else None
    if not isinstance(paths, list) or len(paths) > _LAYERS_LIMIT or not isinstance(image.get("Config"), str):
        raise Corrupt(f"{source}: manifest.json names no layers", operation="read image", subject=source)
    config = _read(archive, image["Config"])
    names = image.get("RepoTags") or [""]

    def opening(path: object) -> Callable[[], BinaryIO]:
        return lambda: archive.open(str(path))

    layers = _layers(config, [opening(path) for path in paths], source)
    return Image(hashlib.sha256(config).hexdigest(), str(names[0]), content, config, layers)


def _layers(config: bytes, openings: list[Callable[[], BinaryIO]], source: str) -> tuple[Layer, ...]:
    root = _parsed(config, source).get("rootfs")
    texts = root.get("diff_ids") if isinstance(root, dict) else None
    if not isinstance(texts, list) or len(texts) != len(openings):
        message = f"{source}: manifest and configuration name different numbers of layers; is it a container image?"
        raise Corrupt(message, operation="read image", subject=source)
    matches = [_DIGEST.fullmatch(text) if isinstance(text, str) else None for text in texts]
    if not all(matches):
        raise Unsupported(f"{source}: a layer is not named by a SHA-256 digest", operation="read image", subject=source)
    pairs = zip((match[1] for match in matches if match), openings, strict=True)
    return tuple(Layer(diff_id, opening) for diff_id, opening in pairs)


def _chosen(files: _Directory | _Archive, index: dict[str, Any], source: str, platform: str, depth: int) -> Any:
    """Returns the descriptor of the manifest of a platform, looked for through indexes of indexes."""
    found = [item for item in index.get("manifests") or [] if isinstance(item, dict)]
    fitting = [item for item in found if _fits(item.get("platform"), platform)]
    # A layout made by hand, as by `umoci`, names no platform.
    chosen = (fitting or [item for item in found if "platform" not in item])[:1]
    if not chosen:
        known = ", ".join(sorted({_platform(item.get("platform")) for item in found})) or "none"
        message = f"{source} has no image for {platform} (it has: {known}); choose with --platform"
        raise NotFound(message, operation="read image", subject=source)
    descriptor = chosen[0]
    if "index" not in str(descriptor.get("mediaType")) and "manifest.list" not in str(descriptor.get("mediaType")):
        return descriptor
    if depth >= _DEPTH_LIMIT:
        raise Corrupt(f"{source}: its indexes do not end", operation="read image", subject=source)
    return _chosen(files, _parsed(_blob(files, descriptor, source), source), source, platform, depth + 1)


def _platform(stated: object) -> str:
    return f"{stated.get('os')}/{stated.get('architecture')}" if isinstance(stated, dict) else "unnamed"


def _fits(stated: object, platform: str) -> bool:
    return isinstance(stated, dict) and _platform(stated) == "/".join(platform.split("/")[:2])


def _name(index: dict[str, Any], descriptor: dict[str, Any]) -> str:
    """Returns the reference that a layout gives its image, if it is one."""
    items = [descriptor, *(item for item in index.get("manifests") or [] if isinstance(item, dict))]
    notes = [item.get("annotations") for item in items]
    found = (str(note[key]) for key in _NAMES for note in notes if isinstance(note, dict) and key in note)
    # Often the second one is a mere tag.
    return next((name for name in found if "/" in name or ":" in name), "")


def _digest(descriptor: object, source: str) -> str:
    match = _DIGEST.fullmatch(str(descriptor.get("digest"))) if isinstance(descriptor, dict) else None
    if match is None:
        raise Unsupported(f"{source}: a part is not named by a SHA-256 digest", operation="read image", subject=source)
    return match[1]


def _blob(files: _Directory | _Archive, descriptor: object, source: str) -> bytes:
    digest = _digest(descriptor, source)
    content = _read(files, f"blobs/sha256/{digest}")
    if hashlib.sha256(content).hexdigest() != digest:
        message = f"{source}: the part sha256:{digest} has another content"
        raise Corrupt(message, operation="read image", subject=source)
    return content


def _read(files: _Directory | _Archive, name: str) -> bytes:
    with files.open(name) as stream:
        content = stream.read(_DOCUMENT_LIMIT_BYTES + 1)
    if len(content) > _DOCUMENT_LIMIT_BYTES:
        message = f"{name} of the image is larger than {_DOCUMENT_LIMIT_BYTES} bytes"
        raise Corrupt(message, operation="read image", subject=name)
    return content


def _parsed(content: bytes, source: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{source}: a document is no JSON: {error}", operation="read image", subject=source) from None
    if not isinstance(document, dict):
        raise Corrupt(f"{source}: a document is no JSON object", operation="read image", subject=source)
    return document
