"""One file of 1 GiB from its beginning to its end, in reads of 128 KiB."""

from pathlib import Path

from bench.harness import probing
from bench.harness.commands import Command
from bench.harness.scenario import of_command


def command(_source: Path) -> Command:
    """Returns the command."""
    return probing.command("read_sequential", ["big"])


SCENARIO = of_command("big-file-sequential", "big", command, probing.check, probing.figures)
