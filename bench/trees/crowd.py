"""What the many programs of a site read beside software and modulefiles: notes, and files that nobody can guess.

Single-threaded.
"""

import random
from pathlib import Path

from bench.trees.material import Text, settle, write_file

NOTE_DIRECTORIES, NOTES_EACH = 24, 20
LONE_FILES = 600
_KINDS = ("txt", "conf", "h", "xml")


def build_notes(tree: Path) -> None:
    """Writes small files of several kinds into `section-NN/`."""
    text = Text(24)
    sizes = iter(text.sizes(NOTE_DIRECTORIES * NOTES_EACH, NOTE_DIRECTORIES * NOTES_EACH * 3_000))
    for section in range(NOTE_DIRECTORIES):
        for number in range(NOTES_EACH):
            path = tree / f"section-{section:02d}" / f"note-{number:02d}.{_KINDS[number % len(_KINDS)]}"
            write_file(path, text.cut(f"section {section} note {number}", next(sizes)))
    settle(tree)


def build_lone(tree: Path) -> None:
    """Writes files each of which is alone in its directory and of a kind of its own, so that none suggests another."""
    chance = random.Random(600)
    for number in range(LONE_FILES):
        path = tree / f"place-{number:03d}" / f"only.k{number:03d}"
        write_file(path, chance.randbytes(700))
    settle(tree)


def lone_files() -> list[str]:
    """Returns the names of the lone files, relative to their tree, in an order that is no listing's."""
    names = [f"place-{number:03d}/only.k{number:03d}" for number in range(LONE_FILES)]
    return random.Random(601).sample(names, len(names))
