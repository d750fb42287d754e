"""`python3 -m json.tool` from a published CPython: the first workload of the talk."""

from pathlib import Path

from bench.harness.commands import TREE, Command
from bench.harness.scenario import of_command, said
from bench.trees import python_copy


def command(_source: Path) -> Command:
    """Returns the command."""
    argv, environment = python_copy.start_command(Path(TREE) / "sw" / "python")
    return Command((*argv, "-m", "json.tool"), environment, '{"answer": 42}')


check = said('"answer": 42')

SCENARIO = of_command("json-tool", "software", command, check, bundle_begins="")
