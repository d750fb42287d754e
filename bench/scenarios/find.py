"""`find -size`: every directory listed, every file's attributes asked for."""

from pathlib import Path

from bench.harness.commands import TREE, Command
from bench.harness.scenario import of_command, said


def command(_source: Path) -> Command:
    """Returns the command; `+0c` matches each file that is not empty."""
    return Command(("find", TREE, "-type", "f", "-size", "+0c"))


SCENARIO = of_command("find", "files", command, said("file-00.py"))
