"""The life of a repository whose owner is not root: a program that its owner runs.

Owns which changes such an owner can make. Does not own the machine around it (`tests.support.owners`). One thread.
"""

import os
import random
import sys
from pathlib import Path

from tests.support.life import chance
from tests.support.life.model import Tree
from tests.support.life.story import Story
from tests.support.publishing import Publisher

# What takes root's rights on every file system: devices, other owners, files that the owner himself cannot open.
_IMPOSSIBLE = ("change owner", "new special file")
_LONGEST_NAME = 250  # behind a whiteout's prefix


def live(publisher: Publisher, seed: int, turns: int) -> None:
    """Takes turns; raises with the diary of the one after which something was not as it should be."""
    for name in _IMPOSSIBLE:
        del chance.CHANGES[name]
    chance.ODD_NAMES = tuple(name for name in chance.ODD_NAMES if len(name) <= _LONGEST_NAME)
    chance.FILE_MODES = tuple(mode for mode in chance.FILE_MODES if mode & 0o6600 == 0o600)
    chance.DIRECTORY_MODES = tuple(mode for mode in chance.DIRECTORY_MODES if mode & 0o700 == 0o700)
    story = Story(publisher, random.Random(seed), Tree(keeps_times=False))
    story.take_over()
    for _ in range(turns):
        story.turn()
    assert os.geteuid() != 0
    sys.stdout.write(f"{story.turns} turns: {dict(story.used)}\n")


if __name__ == "__main__":
    live(Publisher(Path(sys.argv[1]), sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
