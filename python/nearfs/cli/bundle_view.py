"""What `nearfs bundle show` shows: bundles of a file, of a mount, or of a repository's storage.

Owns: finding them, and their form on the screen. Threading: a command's main thread.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import mount_table
from nearfs.cli import output
from nearfs.config import names
from nearfs.errors import InvalidInput, NotFound
from nearfs.publish.bundles import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

# What certainly fits a pack, in bytes.
_SMALL = 64 << 10
_LIMIT_BYTES = 1 << 20
HEADINGS = ("TRIGGER", "FILES", "SIZE", "SMALL", "MISSING")


@dataclass(frozen=True)
class Dependency:
    """A file of a bundle; `size` in bytes is None where there is no such file, or nobody can say."""

    path: str
    size: int | None
    is_chunked: bool = False

    @property
    def is_small(self) -> bool:
        """Tells whether it comes in a pack, where the publisher makes packs."""
        return self.size is not None and not self.is_chunked and self.size <= _SMALL


@dataclass(frozen=True)
class Shown:
    """A bundle; `problem` says why nothing can be said of it, `has_sizes` whether its files were looked at."""

    trigger: str
    dependencies: tuple[Dependency, ...] = ()
    left_out: int = 0
    problem: str = ""
    has_sizes: bool = True


def look(what: str) -> tuple[list[Shown], bool]:
    """Returns the bundles that an argument means, and whether it means any number of them."""
    if os.path.isdir(what):
        root = _mount_of(os.path.realpath(what))
        return [_of_file(path, root) for path in sorted(_specifications(what))], True
    if os.path.lexists(what):
        path = os.path.realpath(what)
        root = _mount_of(path)
        if os.path.basename(path).startswith(PREFIX) or not root:
            return [_of_file(path, root)], False
        beside = os.path.join(os.path.dirname(path), PREFIX + os.path.basename(path))
        if not os.path.lexists(beside):
            raise NotFound(f"{what} is no trigger: there is no {beside}", operation="show bundle", subject=what)
        return [_of_file(beside, root)], False
    if "/" in what:
        raise NotFound(f"{what} does not exist", operation="show bundle", subject=what)
    return _of_repository(what), True


def _mount_of(path: str) -> str:
    """Returns the mount point of the repository that a path lies in, nothing where it lies in none."""
    # By the table: in a union, files seem to be on devices of their own.
    mounts = {entry.point: entry for entry in mount_table.entries()}
    above = (str(place) for place in (Path(path), *Path(path).parents))
    point = next((place for place in above if place in mounts), "/")
    name = os.path.basename(point)
    # The union of a publisher does not pass on what the client below says of its root.
    is_union = point in mounts and "overlay" in mounts[point].fstype and "." in name and names.is_valid_name(name)
    return point if is_union or mount_table.attribute(point, "user.fqrn") else ""


def _specifications(directory: str) -> Iterator[str]:
    for place, _, found in os.walk(directory):
        yield from (os.path.join(place, name) for name in found if name.startswith(PREFIX))


def _of_file(path: str, root: str) -> Shown:
    from nearfs import _native
    from nearfs.errors import NearfsError

    inside = path.removeprefix(root) if root else path
    directory, name = os.path.split(inside)
    trigger = os.path.join(directory, name.removeprefix(PREFIX))
    with open(path, "rb") as source:
        content = source.read(_LIMIT_BYTES + 1)
    try:
        paths, left_out = _native.parse_bundle(content, os.fsencode(directory if root else "").rstrip(b"/"))
    except NearfsError as error:
        if not name.startswith(PREFIX):
            raise
        return Shown(trigger, problem=str(error))
    found = tuple(_dependency(os.fsdecode(dependency), root) for dependency in paths)
    return Shown(trigger, found, left_out, has_sizes=bool(root))


def _dependency(path: str, root: str) -> Dependency:
    try:
        status = os.lstat(root + path) if root else None
    except OSError:
        status = None
    size = status.st_size if status is not None and stat.S_ISREG(status.st_mode) else None
    return Dependency(path, size)


def _of_repository(name: str) -> list[Shown]:
    from nearfs import _native
    from nearfs.publish.repository import ANY_ROLE, Repository

    try:
        repository = Repository.load(name, roles=ANY_ROLE)
    except NotFound as error:
        message = f"{error} Give a directory of a mount instead, such as {Path('/cvmfs') / name}"
        raise InvalidInput(message, operation="show bundles", subject=name, exit_code=1) from None
    found = []
    for trigger, files, left_out, problem in _native.list_bundles(
        str(repository.storage), repository.manifest().fields.root_hash
    ):
        dependencies = tuple(Dependency(os.fsdecode(path), size, chunked) for path, size, chunked in files)
        found.append(Shown(os.fsdecode(trigger), dependencies, left_out, problem or ""))
    return found


def row(bundle: Shown) -> tuple[str, ...]:
    """Returns a line of the list."""
    if bundle.problem:
        return bundle.trigger, "", "", "", bundle.problem
    small = [one for one in bundle.dependencies if one.is_small]
    missing = sum(one.size is None for one in bundle.dependencies)
    size = output.readable_size(sum(one.size or 0 for one in bundle.dependencies))
    return bundle.trigger, str(len(bundle.dependencies)), size, str(len(small)), str(missing)


def lines(bundle: Shown) -> Iterator[str]:
    """Yields what is said of one bundle."""
    yield f"{bundle.trigger}: {bundle.problem or f'{len(bundle.dependencies)} files'}"
    for one in bundle.dependencies:
        size = "missing" if one.size is None else output.readable_size(one.size)
        mark = "small" if one.is_small else ""
        yield f"  {size:>12}  {mark:5}  {one.path}" if bundle.has_sizes else f"  {one.path}"
    if bundle.has_sizes and not bundle.problem:
        small = [one for one in bundle.dependencies if one.is_small]
        total = sum(one.size or 0 for one in bundle.dependencies)
        small_bytes = output.readable_size(sum(one.size or 0 for one in small))
        yield f"{output.readable_size(total)} in all; {len(small)} small files, {small_bytes}"
    if bundle.left_out:
        yield f"{bundle.left_out} entries are no paths"


def document(bundle: Shown) -> dict[str, object]:
    """Returns a bundle for `--json`; sizes in bytes."""
    files = [{"path": one.path, "size": one.size, "small": one.is_small} for one in bundle.dependencies]
    return {"trigger": bundle.trigger, "dependencies": files, "left_out": bundle.left_out, "problem": bundle.problem}
