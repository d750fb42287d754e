"""Container images in a repository: unpacked layer by layer, each layer once, listed and removed.

Owns: the plan of what is missing, its steps, and what is known of each image. Does not own: reading images
(`image_source`, `image_layers`), paths (`image_names`), what a layer's whiteouts do (the engine), how a revision
becomes visible (`finishing`).
Threading: one command at a time, under the repository's publishing lock; the engine works beside the main thread.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nearfs.errors import Corrupt, NotFound
from nearfs.publish import image_names, into, statistics
from nearfs.publish.image_steps import Steps
from nearfs.publish.looking import Looking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nearfs._native import Progress
    from nearfs.publish.image_source import Image, Layer
    from nearfs.publish.repository import Repository
    from nearfs.records import Committed

_ORIGIN = "origin.json"
_MARKER = ".cvmfscatalog"
_ORIGIN_LIMIT_BYTES = 1 << 20
_DEPTH_LIMIT = 20


@dataclass(frozen=True)
class Kept:
    """An image of a repository, as its `origin.json` says."""

    name: str
    digest: str
    diff_ids: tuple[str, ...]
    created: str
    source: str

    def chains(self) -> list[str]:
        """Returns the identities of its chains of layers."""
        return image_names.chains(self.diff_ids)


@dataclass(frozen=True)
class Plan:
    """What an image still needs: layers with the chain below (empty for none) and their own, and the flat directory."""

    layers: tuple[tuple[str, str, Layer], ...]
    makes_flat: bool
    makes_link: bool

    @property
    def is_empty(self) -> bool:
        """Tells whether the image is there already, under this very name."""
        return not (self.layers or self.makes_flat or self.makes_link)


def plan(revision: Looking, image: Image, name: str) -> Plan:
    """Returns what is to be done; layers that are there, by whatever image, are not read again."""
    makes_flat = not revision.is_directory(image_names.flat(image.digest))
    chains = image_names.chains(layer.diff_id for layer in image.layers)
    missing = [
        (below, chain, layer)
        for below, chain, layer in zip(["", *chains], chains, image.layers, strict=False)
        if makes_flat and not revision.is_directory(image_names.chain(chain))
    ]
    present = _kept(revision, image_names.metadata(name))
    return Plan(tuple(missing), makes_flat, present is None or present.digest != image.digest)


def unpack(
    repository: Repository, image: Image, name: str, source: str, progress: Progress, say: Callable[[str], None]
) -> Committed | None:
    """Publishes an image under its full name as one revision; returns None where it is there already.

    Nothing is visible before all of it is stored. Raises `Corrupt` for a layer that is not what its digest says.
    """
    with into.held(repository, mounts=False) as present, statistics.publishing(repository, say) as counted:
        with Looking(repository.storage, present.root_hash) as revision:
            wanted = plan(revision, image, name)
            if wanted.is_empty:
                counted.forget()
                return None
            steps = Steps(repository, present.root_hash, progress)
            _unpack(steps, revision, image, wanted, say)
        steps.add(_description(image, name, source))
        return steps.finish(present, statistics_of=counted, say=say)


def remove(repository: Repository, names: Sequence[str], progress: Progress, say: Callable[[str], None]) -> Committed:
    """Removes images, and what no other image needs; raises `NotFound` for a name that is not there."""
    with into.held(repository, mounts=False) as present, statistics.publishing(repository, say) as counted:
        with Looking(repository.storage, present.root_hash) as revision:
            deletions = _deletions(revision, names)
        steps = Steps(repository, present.root_hash, progress)
        steps.delete(deletions)
        return steps.finish(present, statistics_of=counted, say=say)


def kept(repository: Repository) -> list[Kept]:
    """Returns the images of the newest revision, sorted by name."""
    with Looking(repository.storage, repository.manifest().fields.root_hash) as revision:
        return list(_all_kept(revision, image_names.METADATA, 0))


def _unpack(steps: Steps, revision: Looking, image: Image, wanted: Plan, say: Callable[[str], None]) -> None:
    flat = image_names.flat(image.digest)
    chains = [image_names.chain(chain) for _, chain, _ in wanted.layers]
    directories = {parent for path in (*chains, flat) for parent in image_names.parents(path)}
    # What is copied must not be there, what is unpacked into nothing needs attributes.
    directories |= {image_names.chain(chain) for below, chain, _ in wanted.layers if not below}
    directories |= set() if image.layers else {flat}
    entries: dict[str, bytes | str] = {path: "" for path in directories if not revision.is_directory(path)}
    # The engine would make the marker, and give it to nobody.
    entries |= {f"{path}/{_MARKER}": b"" for path in chains if path in entries}
    steps.add(dict(sorted(entries.items())))
    for number, (below, chain, layer) in enumerate(wanted.layers, 1):
        say(f"Unpacking layer {number} of {len(wanted.layers)}: sha256:{layer.diff_id[:12]}")
        if below:
            steps.copy(image_names.chain(below), image_names.chain(chain))
        steps.unpack(layer, image_names.chain(chain))
    if wanted.makes_flat and image.layers:
        steps.copy(image_names.chain(image_names.chains(layer.diff_id for layer in image.layers)[-1]), flat)


def _description(image: Image, name: str, source: str) -> dict[str, bytes | str]:
    """Returns path -> content, or target of a link, of what tells people and programs about an image."""
    where = image_names.metadata(name)
    origin = {
        "version": 1,
        "name": name,
        "digest": image.digest,
        "diff_ids": [layer.diff_id for layer in image.layers],
        "created": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "source": source,
    }
    return {
        f"{where}/manifest.json": image.manifest,
        f"{where}/config.json": image.config,
        f"{where}/{_ORIGIN}": json.dumps(origin, indent=1, sort_keys=True).encode() + b"\n",
        image_names.link(name): image_names.target(name, image.digest),
    }


def _deletions(revision: Looking, names: Sequence[str]) -> list[str]:
    images = {image.name: image for image in _all_kept(revision, image_names.METADATA, 0)}
    for name in names:
        if name not in images:
            message = f"the repository has no image {name}; `nearfs image ls` lists them"
            raise NotFound(message, operation="remove image", subject=name, exit_code=1)
    gone = [images.pop(name) for name in dict.fromkeys(names)]
    needed = {image_names.flat(image.digest) for image in images.values()}
    needed |= {image_names.chain(chain) for image in images.values() for chain in image.chains()}
    paths = {path for image in gone for path in (image_names.link(image.name), image_names.metadata(image.name))}
    for image in gone:
        paths |= {image_names.flat(image.digest), *map(image_names.chain, image.chains())} - needed
    return _with_empty_parents(revision, {path for path in paths if revision.find(path) is not None})


def _with_empty_parents(revision: Looking, paths: set[str]) -> list[str]:
    """Returns the paths to remove, with the directories that nothing is left in, and without what lies in those."""
    gone = set(paths)
    for depth in range(max((path.count("/") for path in paths), default=0), 1, -1):
        for parent in {path.rpartition("/")[0] for path in gone if path.count("/") == depth}:
            if all(f"{parent}/{name}" in gone for name in revision.names(parent)):
                gone.add(parent)
    return sorted(path for path in gone if not gone & set(image_names.parents(path)))


def _all_kept(revision: Looking, directory: str, depth: int) -> Iterator[Kept]:
    names = revision.names(directory)
    if _ORIGIN in names:
        image = _kept(revision, directory)
        if image is not None:
            yield image
    elif depth < _DEPTH_LIMIT:
        for name in names:
            yield from _all_kept(revision, f"{directory}/{name}", depth + 1)


def _kept(revision: Looking, directory: str) -> Kept | None:
    """Returns the image that a directory describes, None where it describes none of ours."""
    path = f"{directory}/{_ORIGIN}"
    if revision.find(path) is None:
        return None
    try:
        stated: dict[str, Any] = json.loads(revision.document(path, _ORIGIN_LIMIT_BYTES))
        diff_ids = tuple(str(diff_id) for diff_id in stated["diff_ids"])
        image = Kept(stated["name"], stated["digest"], diff_ids, stated["created"], stated["source"])
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{path} is not readable: {error!r}", operation="list images", subject=path) from error
    # What is removed is derived from it: a name that is not its own place, or a digest that is none, is not.
    identities = (image.digest, *image.diff_ids)
    if image_names.metadata(image.name) != directory or not all(_is_digest(text) for text in identities):
        raise Corrupt(f"{path} describes another image", operation="list images", subject=path)
    return image


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")
