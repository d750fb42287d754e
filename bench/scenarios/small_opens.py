"""Open, read and close 240 small files, each call timed."""

from pathlib import Path

from bench.harness import probing
from bench.harness.commands import Command
from bench.harness.scenario import of_command


def command(source: Path) -> Command:
    """Returns the command over one package, in the order of names."""
    files = sorted((source / "package-01").rglob("*.py"))
    return probing.command("open_read_close", [str(path.relative_to(source)) for path in files])


SCENARIO = of_command("small-opens", "files", command, probing.check, probing.figures)
