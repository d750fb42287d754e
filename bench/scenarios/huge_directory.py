"""`ls -l` of a directory of 200,000 entries."""

from pathlib import Path

from bench.harness.commands import TREE, Command, Run
from bench.harness.processes import CommandFailed
from bench.harness.scenario import of_command
from bench.trees.catalogue import WIDE_ENTRIES


def command(_source: Path) -> Command:
    """Returns the command; counted at its end, since its output is large."""
    return Command(("bash", "-c", 'set -o pipefail; ls -l "$1" | wc -l', "bash", f"{TREE}/wide"), {"LC_ALL": "C"})


def check(run: Run) -> None:
    """Raises where entries are missing; the first line is the total."""
    if int(run.stdout) != WIDE_ENTRIES + 1:
        raise CommandFailed(f"ls lists {run.stdout.strip()} lines for {WIDE_ENTRIES} entries")


SCENARIO = of_command("huge-directory", "wide", command, check)
