"""SIGKILL at random moments: the old or the new revision is whole, and the next command goes on by itself.

The moments are drawn over the measured duration of each command, again and again on the same repository. Short in the
ordinary suite; NEARFS_LONG_TESTS=1 kills over fifty times. Kills at chosen system calls: test_kill.py of tests/fault.
"""

import io
import os
import random
import signal
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nearfs.compat.server.commands import COMMANDS
from tests.format import check
from tests.format.listing import resolve
from tests.format.manifest import read_manifest
from tests.support import mounts, processes
from tests.support.life import seeing
from tests.support.life.hand import Hand
from tests.support.life.model import Inode, Tree
from tests.support.life.story import HEAD, UNDO, Story
from tests.support.publishing import Publisher, command
from tests.support.serving import Server

LONG = os.environ.get("NEARFS_LONG_TESTS") == "1"
SEED = int(os.environ.get("NEARFS_KILL_SEED", "1"))
KILLS = int(os.environ.get("NEARFS_KILLS", "14" if LONG else "2"))
LIMIT_S = 60.0
BASE = b"ingested"
MOMENT_S = 1_600_000_000
pytestmark = [pytest.mark.mount, pytest.mark.timeout(1800 if LONG else 180)]


@dataclass
class Killing:
    """Runs commands of a story's publisher and kills some of them."""

    story: Story
    log: Path
    duration_s: float = 0.0

    def run(self, *words: str, delay_s: float | None = None) -> bool:
        """Runs `cvmfs_server`; kills its whole process group after `delay_s`. Returns whether it was killed.

        Without a delay it must succeed, and its duration is what later delays are a part of.
        """
        publisher, started_s = self.story.publisher, time.monotonic()
        with self.log.open("ab") as log:
            running = subprocess.Popen(
                [*command(*words)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=processes.marked_environment(publisher.environment),
                cwd="/",
                start_new_session=True,
            )
        try:
            code = running.wait(LIMIT_S if delay_s is None else delay_s)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait(LIMIT_S)
            return True
        self.duration_s = max(self.duration_s, time.monotonic() - started_s)
        assert code == 0, self.log.read_text()
        return False

    def moment(self) -> float:
        """Returns when to kill: anywhere in the command, and sometimes just behind its end."""
        return self.story.draw.uniform(0.0, 1.05 * self.duration_s)


@dataclass(frozen=True)
class Operation:
    """A command to kill: what is done before it, its words, and the tree that it makes of the present one."""

    prepare: Callable[[Story], None]
    words: Callable[[Story], list[str]]
    becomes: Callable[[Story], Tree]
    goes_on: Callable[[Story, bool], None]
    """What the next command is, given whether the killed one took effect; afterwards the work is done."""
    moves: str = ""
    """The tag that moves to the new revision."""


def prepare_publish(story: Story) -> None:
    story.edit(10)


# Exit codes that tell a script what it has to know, by whether the killed publish took effect.
CODES = {
    True: {"publish": 1, "transaction": 0, "abort": 22, "tag": 0, "mount": 0},
    False: {"publish": 0, "transaction": 17, "abort": 0, "tag": 1, "mount": 0},
}


def go_on_publishing(story: Story, took_effect: bool) -> None:
    """Any command may be the next one; none needs another one before it."""
    publisher, tag = story.publisher, f"after-{story.turns}"
    following = story.draw.choice(sorted(CODES[True]))
    options = {"abort": ["-f"], "tag": ["-a", tag]}.get(following, [])
    done = publisher.server(following, *options, publisher.fqrn, check=False)
    story.diary.append(f"{took_effect=}, then {following}: {done.returncode} {done.stderr}")
    assert done.returncode == CODES[took_effect][following]
    if took_effect and following == "tag":
        story.tags[tag] = story.head
    if took_effect and following == "transaction":
        publisher.server("abort", "-f", publisher.fqrn)
    if not took_effect and following not in ("publish", "abort"):
        publisher.server("publish", publisher.fqrn)
    if not took_effect and following != "abort":
        story.tree = story.edited
    story.settle()


def prepare_rollback(story: Story) -> None:
    """Publishes something to roll back from; the name to go back to stays where it is."""
    if "base" not in story.tags:
        story.server("tag", "-a", "base")
        story.tags["base"] = story.head
    story.edit(10)
    story.publish()


def go_on_rolling_back(story: Story, took_effect: bool) -> None:
    if not took_effect:
        story.server("rollback", "-t", "base", "-f")
        story.tree = story.trees[story.tags["base"]]
        story.settle()
        story.tags["base"] = story.head
    else:
        story.server("transaction")
        story.server("abort", "-f")


def prepare_collection(story: Story) -> None:
    """Publishes twice without a name: the first of the two is garbage, but for what others refer to."""
    for _ in range(3):
        story.edit(6)
        story.publish()


def go_on_collecting(story: Story, took_effect: bool) -> None:
    story.server("gc", "-f", "-r", "0")


def prepare_ingestion(story: Story) -> None:
    """Writes the archive of this turn, and makes the directory that archives go to."""
    if BASE not in story.tree.entries:
        story.server("transaction")
        hand = Hand(story.publisher.union, Tree(dict(story.tree.entries)), story.diary)
        hand.make_directory(BASE)
        story.edited = hand.tree
        story.publish()
    with tarfile.open(archive_of(story), "w") as archive:
        for name, inode in ingested(story).items():
            member = tarfile.TarInfo(os.fsdecode(name))
            member.type = tarfile.DIRTYPE if inode.is_directory else tarfile.REGTYPE
            member.size, member.mtime, member.mode = len(inode.content), MOMENT_S, stat.S_IMODE(inode.mode)
            archive.addfile(member, io.BytesIO(inode.content))


def archive_of(story: Story) -> Path:
    """Returns where the archive of the present turn is."""
    return story.publisher.prefix / "ingested.tar"


def ingested(story: Story) -> dict[bytes, Inode]:
    """Returns what the archive of the present turn holds."""
    top, draw = b"turn-%d" % story.turns, random.Random(story.turns)
    made = {top: Inode(stat.S_IFDIR | 0o755, mtime_ns=MOMENT_S * 10**9)}
    for number in range(20):
        content = draw.randbytes(40_000)
        made[top + b"/%d" % number] = Inode(stat.S_IFREG | 0o644, mtime_ns=MOMENT_S * 10**9, content=content)
    return made


def with_archive(story: Story) -> Tree:
    """Returns the present tree with the archive of the present turn in it."""
    tree = Tree(dict(story.tree.entries))
    for name, inode in ingested(story).items():
        tree.put(BASE + b"/" + name, inode)
        inode.mtime_ns = None if inode.is_directory else inode.mtime_ns
    return tree


def ingest_words(story: Story) -> list[str]:
    """Returns the command that takes the archive in."""
    return ["ingest", "-t", str(archive_of(story)), "-b", os.fsdecode(BASE), story.publisher.fqrn]


def go_on_ingesting(story: Story, took_effect: bool) -> None:
    if not took_effect:
        story.tree = with_archive(story)
        story.publisher.server(*ingest_words(story))
    else:  # any command makes the mounts follow
        story.server("mount")
    story.settle()


OPERATIONS = {
    "publish": Operation(
        prepare_publish, lambda story: ["publish", story.publisher.fqrn], lambda story: story.edited, go_on_publishing
    ),
    "rollback": Operation(
        prepare_rollback,
        lambda story: ["rollback", "-t", "base", "-f", story.publisher.fqrn],
        lambda story: story.trees[story.tags["base"]],
        go_on_rolling_back,
        moves="base",
    ),
    "gc": Operation(
        prepare_collection,
        lambda story: ["gc", "-f", "-r", "0", story.publisher.fqrn],
        lambda story: story.tree,
        go_on_collecting,
    ),
    "ingest": Operation(prepare_ingestion, ingest_words, with_archive, go_on_ingesting),
}


def look(story: Story, operation: Operation, mount: Callable[..., Path], url: str, cache: Path) -> bool:
    """Fails unless the storage serves the old or the new revision whole; returns whether it is the new one."""
    publisher = story.publisher
    key = publisher.public_key.read_bytes()
    assert check.check_repository(publisher.storage, [key], publisher.fqrn) == []
    head = read_manifest(publisher.storage).root_hash.text
    took_effect = head != story.head
    expected = operation.becomes(story) if took_effect else story.tree
    assert seeing.differences(expected, seeing.stored(publisher.storage, head)) == []
    if took_effect and operation.moves:
        story.tags[operation.moves] = head
    for name in story.tags.keys() & present_tags(story):
        assert resolve(publisher.storage, name).text == story.tags[name]
    point = mount(publisher.fqrn, publisher.client_settings(url, cache, CVMFS_MAGIC_XATTRS_VISIBILITY="never"))
    assert seeing.differences(expected, seeing.mounted(point)) == []
    mounts.unmount(point)
    if took_effect:
        story.tree = expected
        story.trees[head] = expected
        story.head = head
    return took_effect


def present_tags(story: Story) -> set[str]:
    """Returns the names in the storage."""
    return story.publisher.tags().keys() - {HEAD, UNDO}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kill_at_any_moment_loses_nothing(
    publisher: Publisher, name: str, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    if name not in COMMANDS and not LONG:
        pytest.skip(f"this version has no cvmfs_server {name} yet; the long form fails without it")
    operation = OPERATIONS[name]
    story = Story(publisher, random.Random(f"{SEED} {name}"))
    story.begin()
    killing, kills = Killing(story, tmp_path / "killed.log"), 0
    url = server(publisher.storage.parent).url
    try:
        while kills < KILLS:
            story.turns, story.diary = story.turns + 1, []
            operation.prepare(story)
            # The first run of all is whole: it tells how long the command takes.
            delay_s = killing.moment() if killing.duration_s else None
            was_killed = killing.run(*operation.words(story), delay_s=delay_s)
            kills += was_killed
            story.diary.append(f"{name} killed after {delay_s} s: {was_killed}")
            took_effect = look(story, operation, mount, url, tmp_path / f"cache-{story.turns}")
            operation.goes_on(story, took_effect)
            story.verify()
    except Exception as error:
        error.add_note("\n".join(story.diary))
        error.add_note(f"again: NEARFS_KILL_SEED={SEED}, turn {story.turns}")
        raise
