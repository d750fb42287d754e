"""`module avail` by Lmod over 1,000 modulefiles: the second workload of the talk."""

from pathlib import Path

from bench import lmod
from bench.harness.commands import SCRATCH, TREE, Command, Run
from bench.harness.processes import CommandFailed
from bench.harness.scenario import of_command
from bench.trees.catalogue import MODULES


def command(_source: Path) -> Command:
    """Returns the command, with a fresh HOME: Lmod would remember the last run in it."""
    argv, environment = lmod.avail_command(Path(TREE) / "modules" / "all", Path(SCRATCH))
    return Command(tuple(argv), environment)


def check(run: Run) -> None:
    """Raises unless every module is listed."""
    listed = len(lmod.listed_modules(run.stderr))
    if listed != MODULES:
        raise CommandFailed(f"module avail lists {listed} modules of {MODULES}: {run.stderr[-500:]}")


SCENARIO = of_command("module-avail", "software", command, check, bundle_begins="")
