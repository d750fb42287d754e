"""One file of each directory, opened, read and closed: whoever guesses its neighbours guesses in vain."""

import random
from pathlib import Path

from bench.harness import probing
from bench.harness.commands import Command
from bench.harness.scenario import of_command

DIRECTORIES = 250


def command(source: Path) -> Command:
    """Returns the command over the first directories in the order of names, with any file of each."""
    chance = random.Random(250)
    directories = sorted(path for path in source.glob("package-*/part-*"))[:DIRECTORIES]
    files = [chance.choice(sorted(directory.iterdir())) for directory in directories]
    return probing.command("open_read_close", [str(path.relative_to(source)) for path in files])


SCENARIO = of_command("one-of-each", "many", command, probing.check, probing.figures)
