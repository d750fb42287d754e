"""Names of images, and where an image is in a repository.

Owns: the full form of a reference, and the paths below `/.flat`, `/.chains` and `/.metadata`.
Threading: pure functions.

    /REGISTRY/NAME:TAG            a link to the image's root file system
    /.flat/ab/DIGEST              the root file system, a catalog of its own
    /.chains/ab/CHAIN             the file system after each layer: what images that share layers begin with
    /.metadata/REGISTRY/NAME:TAG  manifest.json, config.json, and origin.json, which is ours
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from nearfs.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

METADATA = "/.metadata"
_DEFAULT_REGISTRY = "docker.io"
_LENGTH_LIMIT = 255
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?")
_PART = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def full(reference: str) -> str:
    """Returns `registry/name:tag` of a reference, with Docker's defaults; raises `InvalidInput`."""
    registry, _, rest = reference.partition("/")
    if not rest or not ("." in registry or ":" in registry or registry == "localhost"):
        registry, rest = _DEFAULT_REGISTRY, reference
    name, _, tag = rest.partition(":")
    if registry == _DEFAULT_REGISTRY and "/" not in name:
        name = f"library/{name}"
    tag = tag or "latest"
    parts = name.split("/")
    fits = _HOST.fullmatch(registry) and _TAG.fullmatch(tag) and all(_PART.fullmatch(part) for part in parts)
    if not fits or len(reference) > _LENGTH_LIMIT:
        message = f"{reference!r} is no name of an image: [REGISTRY/]NAME[:TAG], lower-case names, without a digest"
        raise InvalidInput(message, operation="read image name", subject=reference)
    return f"{registry}/{name}:{tag}"


def link(name: str) -> str:
    """Returns the path of the public link of a full name."""
    return f"/{name}"


def metadata(name: str) -> str:
    """Returns the directory of what is known about an image."""
    return f"{METADATA}/{name}"


def flat(digest: str) -> str:
    """Returns the directory of a root file system."""
    return f"/.flat/{digest[:2]}/{digest}"


def chain(identity: str) -> str:
    """Returns the directory of the file system that a chain of layers makes."""
    return f"/.chains/{identity[:2]}/{identity}"


def chains(diff_ids: Iterable[str]) -> list[str]:
    """Returns the identity of each prefix of a list of layers, as the OCI specification defines chain identifiers."""
    found: list[str] = []
    for diff_id in diff_ids:
        below = f"sha256:{found[-1]} sha256:{diff_id}" if found else ""
        found.append(hashlib.sha256(below.encode()).hexdigest() if found else diff_id)
    return found


def target(name: str, digest: str) -> str:
    """Returns what the link of an image says: relative, so that it holds wherever the repository is mounted."""
    return "../" * (link(name).count("/") - 1) + flat(digest).lstrip("/")


def parents(path: str) -> list[str]:
    """Returns the directories above a path, the highest first, the root left out."""
    names = path.split("/")[1:-1]
    return ["/" + "/".join(names[: count + 1]) for count in range(len(names))]
