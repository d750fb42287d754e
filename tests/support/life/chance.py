"""What a release manager might do next: one random change at a time, from a seed.

Owns which changes exist and how often each is made. Does not own how a change is made (`hand`). The same seed and tree
make the same changes. One thread.
"""

from __future__ import annotations

import random
import stat
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.life.hand import Hand
from tests.support.life.model import DIRTAB, DIRTAB_RULES, MARKER, Inode

BIG_BYTES = 300_000
MOST_ENTRIES = 220
ODD_NAMES: tuple[bytes, ...] = (
    b"\xff\xfe odd",
    b"new\nline",
    b"-rf",
    b"*?[",
    b"  blank ",
    "naïve-Ω".encode(),
    b"n" * 255,
    b"q'\"$(x)",
)
TARGETS = (b"../up", b"/absolute/none", b"\xfe\xff", b"a b", b"t" * 300)
OWNERS = ((0, 0), (1000, 1000), (65534, 65533), (123456, 7))
FILE_MODES: tuple[int, ...] = (0o644, 0o755, 0o600, 0o444, 0o4755, 0o2711, 0o000)
DIRECTORY_MODES: tuple[int, ...] = (0o755, 0o700, 0o1777, 0o555)
SPECIAL = (
    (stat.S_IFIFO | 0o640, (0, 0)), (stat.S_IFCHR | 0o666, (1, 3)), (stat.S_IFBLK | 0o600, (8, 1)),
    (stat.S_IFSOCK | 0o755, (0, 0)),
)  # fmt: skip
MOMENTS_NS = (-86_400_000_000_001, 0, 1_700_000_000_123_456_789, 4_102_444_800_000_000_000)


class NothingToDoError(Exception):
    """The tree has nothing that this change could be made to."""


@dataclass
class Chance:
    """Draws changes for one transaction."""

    draw: random.Random
    hand: Hand

    def one(self) -> str:
        """Makes one change; returns its name."""
        entries = self.hand.tree.entries
        names = list(CHANGES)
        weights = [CHANGES[name][1] for name in names]
        if len(entries) > MOST_ENTRIES:
            weights = [
                weight * 9 if name.startswith("remove") else weight for name, weight in zip(names, weights, strict=True)
            ]
        while True:
            (name,) = self.draw.choices(names, weights)
            try:
                CHANGES[name][0](self)
            except NothingToDoError:
                continue
            return name

    def pick(self, wanted: Callable[[bytes, Inode], bool]) -> bytes:
        """Returns the path of an entry that is `wanted`; markers and rules are no ordinary files and left alone."""
        found = sorted(
            path
            for path, inode in self.hand.tree.entries.items()
            if path.rpartition(b"/")[2] not in (MARKER, DIRTAB) and wanted(path, inode)
        )
        if not found:
            raise NothingToDoError
        return self.draw.choice(found)

    def file(self) -> bytes:
        """Returns the path of a regular file."""
        return self.pick(lambda _, inode: inode.is_regular)

    def directory(self) -> bytes:
        """Returns the path of a directory that is not the root."""
        return self.pick(lambda _, inode: inode.is_directory)

    def no_directory(self) -> bytes:
        """Returns the path of anything that is no directory."""
        return self.pick(lambda _, inode: not inode.is_directory)

    def parent(self) -> bytes:
        """Returns a directory that is not too deep, now and then the root."""
        if self.draw.random() < 0.25:
            return b""
        try:
            return self.pick(lambda path, inode: inode.is_directory and path.count(b"/") < 5)
        except NothingToDoError:
            return b""

    def fresh(self, prefix: bytes, parent: bytes | None = None) -> bytes:
        """Returns a path that is not taken."""
        parent = self.parent() if parent is None else parent
        name = b"%s-%06x" % (prefix, self.draw.randrange(1 << 24))
        path = parent + b"/" + name if parent else name
        if path in self.hand.tree.entries:
            raise NothingToDoError
        return path

    def content(self, most: int = 2000) -> bytes:
        """Returns content that is small, and now and then the same as somewhere else."""
        if self.draw.random() < 0.2:
            return b"the same everywhere\n" * self.draw.randrange(1, 4)
        return self.draw.randbytes(self.draw.randrange(1, most))


def new_file(chance: Chance) -> None:
    chance.hand.write(chance.fresh(b"file"), chance.content())


def new_empty(chance: Chance) -> None:
    chance.hand.write(chance.fresh(b"empty"), b"")


def new_big(chance: Chance) -> None:
    size = BIG_BYTES + chance.draw.randrange(100_000)
    chance.hand.write(chance.fresh(b"big"), chance.draw.randbytes(size))


def new_sparse(chance: Chance) -> None:
    ends = [bytes(chance.draw.randrange(200_000)), b"island", bytes(chance.draw.randrange(200_000))]
    chance.hand.write(chance.fresh(b"sparse"), b"".join(ends), holes=True)


def new_odd_name(chance: Chance) -> None:
    parent, name = chance.parent(), chance.draw.choice(ODD_NAMES)
    path = parent + b"/" + name if parent else name
    if path in chance.hand.tree.entries:
        raise NothingToDoError
    if chance.draw.random() < 0.3:
        chance.hand.make_directory(path)
    else:
        chance.hand.write(path, chance.content())


def new_directory(chance: Chance) -> None:
    path = chance.fresh(b"dir")
    chance.hand.make_directory(path, chance.draw.choice(DIRECTORY_MODES))
    for _ in range(chance.draw.randrange(3)):
        chance.hand.write(chance.fresh(b"file", path), chance.content())


def new_symlink(chance: Chance) -> None:
    chance.hand.make_symlink(chance.fresh(b"symlink"), chance.draw.choice(TARGETS))


def new_special(chance: Chance) -> None:
    chance.hand.make_special(chance.fresh(b"special"), *chance.draw.choice(SPECIAL))


def new_tab(chance: Chance) -> None:
    """Makes what the rules of `.cvmfsdirtab` are about, and the rules themselves when they are not there."""
    if DIRTAB not in chance.hand.tree.entries:
        chance.hand.write(DIRTAB, DIRTAB_RULES)
    top = chance.fresh(b"tab", b"")
    chance.hand.make_directory(top)
    for prefix in (b"release", b"not"):
        path = chance.fresh(prefix, top)
        chance.hand.make_directory(path)
        chance.hand.write(chance.fresh(b"file", path), chance.content())


def remove_rules(chance: Chance) -> None:
    if DIRTAB not in chance.hand.tree.entries:
        raise NothingToDoError
    chance.hand.remove(DIRTAB)


def overwrite(chance: Chance) -> None:
    chance.hand.write(chance.file(), chance.content())


def patch(chance: Chance) -> None:
    path = chance.file()
    size = len(chance.hand.tree.entries[path].content)
    chance.hand.patch(path, chance.draw.randrange(size + 5000), chance.content())


def truncate(chance: Chance) -> None:
    path = chance.file()
    chance.hand.truncate(path, chance.draw.randrange(len(chance.hand.tree.entries[path].content) + 3000))


def remove_file(chance: Chance) -> None:
    chance.hand.remove(chance.no_directory())


def remove_tree(chance: Chance) -> None:
    most = 40 if len(chance.hand.tree.entries) <= MOST_ENTRIES else MOST_ENTRIES
    tree = chance.hand.tree
    chance.hand.remove(chance.pick(lambda path, inode: inode.is_directory and len(tree.below(path)) <= most))


def replace_directory(chance: Chance) -> None:
    """Removes a directory and makes one of the same name: an opaque one."""
    path = chance.directory()
    chance.hand.remove(path)
    chance.hand.make_directory(path)
    chance.hand.write(chance.fresh(b"file", path), chance.content())


def change_type(chance: Chance) -> None:
    """Puts something of another kind where an entry is."""
    path = chance.pick(lambda path, inode: not inode.is_directory or len(chance.hand.tree.below(path)) < 10)
    before = chance.hand.tree.entries[path]
    chance.hand.remove(path)
    kind = chance.draw.choice([kind for kind in ("file", "directory", "symlink") if not is_of_kind(before, kind)])
    if kind == "file":
        chance.hand.write(path, chance.content())
    elif kind == "symlink":
        chance.hand.make_symlink(path, chance.draw.choice(TARGETS))
    else:
        chance.hand.make_directory(path)
        chance.hand.write(chance.fresh(b"file", path), chance.content())


def is_of_kind(inode: Inode, kind: str) -> bool:
    """Tells whether an inode is a "file", "directory" or "symlink"."""
    return {"file": inode.is_regular, "directory": inode.is_directory, "symlink": inode.is_symlink}[kind]


def move_file(chance: Chance) -> None:
    chance.hand.move(chance.no_directory(), chance.fresh(b"moved"))


def move_over(chance: Chance) -> None:
    source, target = chance.no_directory(), chance.no_directory()
    if source == target:
        raise NothingToDoError
    chance.hand.move(source, target)


def move_tree(chance: Chance) -> None:
    source = chance.directory()
    target = chance.fresh(b"moved")
    if target.startswith(source + b"/") or len(chance.hand.tree.below(source)) > 40:
        raise NothingToDoError
    chance.hand.move(source, target)


def swap(chance: Chance) -> None:
    """Exchanges two files by way of a third name."""
    one, other = chance.no_directory(), chance.no_directory()
    if one == other:
        raise NothingToDoError
    aside = chance.fresh(b"aside")
    for source, target in ((one, aside), (other, one), (aside, other)):
        chance.hand.move(source, target)


def change_mode(chance: Chance) -> None:
    path = chance.pick(lambda _, inode: not inode.is_symlink)
    is_directory = chance.hand.tree.entries[path].is_directory
    chance.hand.change_mode(path, chance.draw.choice(DIRECTORY_MODES if is_directory else FILE_MODES))


def change_owner(chance: Chance) -> None:
    chance.hand.change_owner(chance.pick(lambda *_: True), *chance.draw.choice(OWNERS))


def set_attribute(chance: Chance) -> None:
    path = chance.pick(lambda _, inode: inode.is_regular or inode.is_directory)
    name = chance.draw.choice((b"user.one", b"user.two", b"user.\xc3\xb6"))
    chance.hand.set_attribute(path, name, chance.draw.randbytes(chance.draw.choice((1, 20, 250))))


def remove_attribute(chance: Chance) -> None:
    path = chance.pick(lambda _, inode: bool(inode.xattrs))
    chance.hand.remove_attribute(path, chance.draw.choice(sorted(chance.hand.tree.entries[path].xattrs)))


def set_time(chance: Chance) -> None:
    chance.hand.set_time(chance.pick(lambda *_: True), chance.draw.choice(MOMENTS_NS))


def link_beside(chance: Chance) -> None:
    source = chance.file()
    target = chance.fresh(b"link", source.rpartition(b"/")[0])
    chance.hand.link(source, target)
    if chance.draw.random() < 0.5:
        chance.hand.change_mode(target, 0o640)  # of every name


def link_across(chance: Chance) -> None:
    source, target = chance.file(), chance.fresh(b"link")
    if source.rpartition(b"/")[0] == target.rpartition(b"/")[0]:
        raise NothingToDoError
    chance.hand.link(source, target)


def make_nested(chance: Chance) -> None:
    nested = chance.hand.tree.nested()
    chance.hand.write(chance.pick(lambda path, inode: inode.is_directory and path not in nested) + b"/" + MARKER, b"")


def merge_nested(chance: Chance) -> None:
    nested = sorted(chance.hand.tree.nested())
    if not nested:
        raise NothingToDoError
    chance.hand.remove(chance.draw.choice(nested) + b"/" + MARKER)


CHANGES: dict[str, tuple[Callable[[Chance], None], int]] = {
    "new file": (new_file, 10),
    "new empty file": (new_empty, 3),
    "new big file": (new_big, 3),
    "new sparse file": (new_sparse, 2),
    "new odd name": (new_odd_name, 4),
    "new directory": (new_directory, 9),
    "new symlink": (new_symlink, 4),
    "new special file": (new_special, 2),
    "new directory of the rules": (new_tab, 2),
    "remove the rules": (remove_rules, 1),
    "overwrite": (overwrite, 6),
    "patch": (patch, 4),
    "truncate": (truncate, 3),
    "remove file": (remove_file, 5),
    "remove tree": (remove_tree, 2),
    "replace directory": (replace_directory, 2),
    "change type": (change_type, 4),
    "move file": (move_file, 4),
    "move over": (move_over, 2),
    "move tree": (move_tree, 3),
    "swap": (swap, 1),
    "change mode": (change_mode, 4),
    "change owner": (change_owner, 4),
    "set attribute": (set_attribute, 4),
    "remove attribute": (remove_attribute, 2),
    "set time": (set_time, 3),
    "link beside": (link_beside, 3),
    "link across": (link_across, 2),
    "make nested": (make_nested, 4),
    "merge nested": (merge_nested, 2),
}
"""What can happen inside of a transaction, and how often."""
