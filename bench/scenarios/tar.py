"""`tar` of one package of small files: each is read, one after the other."""

from pathlib import Path

from bench.harness.commands import SCRATCH, TREE, Command, Run
from bench.harness.processes import CommandFailed
from bench.harness.scenario import of_command


def command(_source: Path) -> Command:
    """Returns the command; `/dev/null` as the archive would make tar skip the content."""
    # A pipe: tar reads nothing where it sees that the archive is /dev/null.
    script = 'set -o pipefail; tar -cf - -C "$1" package-00 | wc -c'
    return Command(("bash", "-c", script, "bash", TREE), {"TMPDIR": SCRATCH})


def check(run: Run) -> None:
    """Raises where the archive is too small to have the content."""
    if int(run.stdout.split()[-1]) < 500_000:
        raise CommandFailed(f"the archive has {run.stdout.strip()} bytes only")


SCENARIO = of_command("tar", "files", command, check)
