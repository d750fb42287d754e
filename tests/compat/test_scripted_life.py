"""Random transactions through the real union: after each of them the repository is sound and every tag what it was.

Short in the ordinary suite; NEARFS_LONG_TESTS=1 takes 200 turns. A failure says what to set to see it again.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from nearfs.compat.server.commands import COMMANDS
from tests.support.life import seeing
from tests.support.life.chance import CHANGES
from tests.support.life.story import TURNS, Story
from tests.support.publishing import Publisher
from tests.support.serving import Server

LONG = os.environ.get("NEARFS_LONG_TESTS") == "1"
SEED = int(os.environ.get("NEARFS_LIFE_SEED", "5"))
NUMBER_OF_TURNS = int(os.environ.get("NEARFS_LIFE_TURNS", "200" if LONG else "12"))
MOUNT_EVERY = 20 if LONG else NUMBER_OF_TURNS
pytestmark = [pytest.mark.mount, pytest.mark.timeout(7200 if LONG else 240)]


def test_every_turn_leaves_a_sound_repository(
    publisher: Publisher, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> None:
    story = Story(publisher, random.Random(SEED))
    story.begin()
    url = server(publisher.storage.parent).url
    try:
        for number in range(1, NUMBER_OF_TURNS + 1):
            story.turn()
            if number % MOUNT_EVERY == 0:
                mount_all(story, url, mount, tmp_path / f"cache-{number}")
    except Exception as error:
        error.add_note(f"again: NEARFS_LIFE_SEED={SEED} NEARFS_LIFE_TURNS={story.turns} pytest {__file__}")
        raise
    if NUMBER_OF_TURNS >= 200:
        expected = CHANGES.keys() | TURNS.keys() | {"nested by rules"}
        assert expected - story.used.keys() == set(), "never happened: the life shows less than it says"
        assert {turn.command for turn in TURNS.values()} <= COMMANDS.keys()


def mount_all(story: Story, url: str, mount: Callable[..., Path], cache: Path) -> None:
    """Mounts every tag for a client that comes over the network, and looks at all of it."""
    publisher = story.publisher
    for name, root_hash in story.tags.items():
        more = {"CVMFS_REPOSITORY_TAG": name, "CVMFS_MAGIC_XATTRS_VISIBILITY": "never"}
        point = mount(publisher.fqrn, publisher.client_settings(url, cache / name, **more))
        assert seeing.differences(story.trees[root_hash], seeing.mounted(point)) == [], f"tag {name}, mounted"
