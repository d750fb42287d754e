"""Small files anywhere in a tree of 30,000, opened, read and closed: nothing follows from one for the next."""

import random
from pathlib import Path

from bench.harness import probing
from bench.harness.commands import Command
from bench.harness.scenario import of_command

FILES = 250


def command(source: Path) -> Command:
    """Returns the command; the seed makes every contender read the same files."""
    files = random.Random(30).sample(sorted(source.rglob("*.py")), FILES)
    return probing.command("open_read_close", [str(path.relative_to(source)) for path in files])


SCENARIO = of_command("random-access", "many", command, probing.check, probing.figures)
