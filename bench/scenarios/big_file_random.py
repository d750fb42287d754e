"""Fifty reads of 4 KiB anywhere in a file of 1 GiB: what a client pays that fetches whole chunks."""

from pathlib import Path

from bench.harness import probing
from bench.harness.commands import Command
from bench.harness.scenario import of_command


def command(_source: Path) -> Command:
    """Returns the command; the seed makes every contender read the same places."""
    return probing.command("read_random", ["big"], "--block-bytes", "4096", "--count", "50", "--seed", "7")


SCENARIO = of_command("big-file-random", "big", command, probing.check, probing.figures)
