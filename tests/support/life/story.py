"""The life of one repository: turns that a release manager takes, and what must hold after each of them.

Owns the trees that were published, by root hash, and the tags. Does not own single changes (`chance`). Turns whose
command this version does not have are left out, and turn up by themselves when it has them. One thread.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from nearfs.compat.server.commands import COMMANDS
from tests.format import check
from tests.support.life import seeing
from tests.support.life.chance import Chance
from tests.support.life.hand import Hand
from tests.support.life.model import MARKER, Inode, Tree
from tests.support.publishing import Publisher

SETTINGS = {
    "CVMFS_MIN_CHUNK_SIZE": "32768",
    "CVMFS_AVG_CHUNK_SIZE": "65536",
    "CVMFS_MAX_CHUNK_SIZE": "131072",
    "CVMFS_INCLUDE_XATTRS": "true",
    "CVMFS_ENABLE_MTIME_NS": "true",
}
MOST_STEPS = 18
MOST_TAGS = 6
HEAD, UNDO = "trunk", "trunk-previous"


@dataclass
class Story:
    """A repository that exists, and what it should be."""

    publisher: Publisher
    draw: random.Random
    tree: Tree = field(default_factory=Tree)
    trees: dict[str, Tree] = field(default_factory=dict)
    """What every revision that was published has, by root hash."""
    tags: dict[str, str] = field(default_factory=dict)
    """Root hashes of the named tags, oldest revision first."""
    head: str = ""
    turns: int = 0
    used: Counter[str] = field(default_factory=Counter)
    diary: list[str] = field(default_factory=list)
    """What the present turn did so far."""
    edited: Tree = field(default_factory=Tree)
    """What the open transaction is about to publish."""

    def begin(self) -> None:
        """Makes the repository, with chunks small enough that files of 300 KB have several."""
        self.publisher.create("-g", "-z")
        self.publisher.configure(SETTINGS)
        self.take_over()

    def take_over(self) -> None:
        """Begins with a repository as mkfs and `SETTINGS` made it."""
        greeting = f"New CernVM-FS repository for {self.publisher.fqrn}\n".encode()
        self.tree.entries = {b"new_repository": Inode(0o100644, content=greeting)}
        self.settle()
        self.verify()

    def server(self, command: str, *options: str) -> str:
        """Runs a command on the repository; returns what it said."""
        self.diary.append(" ".join(["cvmfs_server", command, *options]))
        return self.publisher.server(command, *options, self.publisher.fqrn).stdout

    def turn(self) -> None:
        """Takes one turn and looks at everything; an error carries what the turn did."""
        self.turns += 1
        possible = {name: turn for name, turn in TURNS.items() if turn.command in COMMANDS and turn.is_possible(self)}
        (name,) = self.draw.choices(list(possible), [turn.weight for turn in possible.values()])
        self.diary = [f"turn {self.turns}: {name}"]
        try:
            possible[name].take(self)
            self.verify()
        except Exception as error:
            error.add_note("\n".join(self.diary))
            raise
        self.used[name] += 1

    def edit(self, most_steps: int = MOST_STEPS) -> None:
        """Opens a transaction and makes random changes, which the union must show as they are."""
        self.server("transaction")
        hand = Hand(self.publisher.union, self.tree.changed(), self.diary)
        chance = Chance(self.draw, hand)
        for _ in range(self.draw.randint(1, most_steps)):
            self.used[chance.one()] += 1
        hand.finish(1_600_000_000_000_000_000 + self.turns * 1_000_000_007)
        self.edited = hand.tree
        shown = seeing.differences(hand.tree, seeing.mounted(self.publisher.union))
        assert shown == [], f"before the publish (the model or the overlay, not the publisher): {shown}"
        for directory in hand.tree.marked_by_rules():
            self.used["nested by rules"] += 1
            hand.tree.put(directory + b"/" + MARKER, Inode(0o100644))

    def publish(self, *options: str) -> None:
        """Publishes what `edit` changed."""
        self.tree = self.edited
        self.server("publish", *options)
        self.settle()

    def settle(self) -> None:
        """Takes over what nobody set: the times that the publisher's own files bear, and the root hash."""
        seeing.adopt_times(self.tree, seeing.mounted(self.publisher.union))
        self.tree = self.tree.published()
        self.head = self.publisher.tags()[HEAD][0]
        self.trees[self.head] = self.tree

    def verify(self) -> None:
        """Fails unless the repository is sound for two checkers, and every revision with a name is what it was."""
        publisher = self.publisher
        assert publisher.server("check", "-c", publisher.fqrn).stdout.endswith("no problems found\n")
        key = publisher.public_key.read_bytes()
        assert check.check_repository(publisher.storage, [key], publisher.fqrn) == []
        assert seeing.differences(self.tree, seeing.mounted(publisher.union)) == [], "the union shows another tree"
        shown = {name: root_hash for name, (root_hash, *_) in publisher.tags().items()}
        assert shown[HEAD] == self.head
        assert {name: shown[name] for name in shown.keys() - {HEAD, UNDO}} == self.tags
        for root_hash in set(shown.values()):
            found = seeing.stored(publisher.storage, root_hash)
            assert seeing.differences(self.trees[root_hash], found) == [], f"revision {root_hash} is not what it was"


def publish(story: Story) -> None:
    story.edit()
    story.publish(*(["-v"] if story.draw.random() < 0.2 else []))


def publish_with_a_tag(story: Story) -> None:
    story.edit()
    name = f"release-{story.turns}"
    story.publish("-a", name, "-m", "as announced")
    story.tags[name] = story.head


def publish_nothing(story: Story) -> None:
    story.server("transaction")
    story.edited = story.tree
    story.publish()


def abort(story: Story) -> None:
    story.edit(6)
    story.server("abort", "-f")


def add_tag(story: Story) -> None:
    name = f"named-{story.turns}"
    story.server("tag", "-a", name)
    story.tags[name] = story.head


def remove_tag(story: Story) -> None:
    name = story.draw.choice(sorted(story.tags))
    story.server("tag", "-r", name, "-f")
    del story.tags[name]


def move_tag(story: Story) -> None:
    name = story.draw.choice(sorted(story.tags))
    story.server("tag", "-a", name, "-h", story.head)
    story.tags[name] = story.head


def check_all(story: Story) -> None:
    assert story.server("check", "-i").endswith("no problems found\n")


def rollback(story: Story) -> None:
    """Goes back to a tag: what is newer loses its name, and the old tree is a new revision."""
    name = story.draw.choice(sorted(tag for tag, root in story.tags.items() if root != story.head))
    revisions = {tag: int(fields[2]) for tag, fields in story.publisher.tags().items()}
    story.server("rollback", "-t", name, "-f")
    story.tags = {tag: root for tag, root in story.tags.items() if revisions[tag] <= revisions[name]}
    story.tree = story.trees[story.tags[name]]
    story.settle()
    story.tags[name] = story.head  # the name moves to the new revision (format.md 6.4)


def collect(story: Story) -> None:
    story.server("gc", "-f", "-r", str(story.draw.randrange(3)))
    assert story.server("check").endswith("no problems found\n")


@dataclass(frozen=True)
class Turn:
    """One kind of turn: the command that it needs, how often it is taken, and whether it makes sense now."""

    command: str
    weight: int
    take: Callable[[Story], None]
    is_possible: Callable[[Story], bool] = lambda story: True


def has_tags(story: Story) -> bool:
    """Tells whether there is a tag to remove or to go back to."""
    return bool(story.tags)


def may_go_back(story: Story) -> bool:
    """Tells whether a tag names something else than the head."""
    return any(root != story.head for root in story.tags.values())


def may_tag(story: Story) -> bool:
    """Tells whether one more tag still can be read in each turn."""
    return len(story.tags) < MOST_TAGS


def may_move(story: Story) -> bool:
    """Tells whether a tag names something else than the head."""
    return bool(story.tags) and story.head not in story.tags.values()


TURNS = {
    "publish": Turn("publish", 30, publish),
    "publish with a tag": Turn("publish", 8, publish_with_a_tag, may_tag),
    "publish nothing": Turn("publish", 2, publish_nothing),
    "abort": Turn("abort", 3, abort),
    "add tag": Turn("tag", 5, add_tag, may_tag),
    "remove tag": Turn("tag", 3, remove_tag, has_tags),
    "move tag": Turn("tag", 1, move_tag, may_move),
    "check all": Turn("check", 2, check_all),
    "roll back": Turn("rollback", 5, rollback, may_go_back),
    "collect garbage": Turn("gc", 6, collect),
}
