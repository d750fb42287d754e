"""A shell that sources 200 small files of a site's environment, from many directories."""

from pathlib import Path

from bench.harness.commands import TREE, Command
from bench.harness.scenario import of_command, said
from bench.trees import environments


def command(_source: Path) -> Command:
    """Returns the command."""
    return of_environment("env/physics")


def of_environment(directory: str) -> Command:
    """Returns the command that sets up the environment in a directory of the tree."""
    words = ("bash", "--noprofile", "--norc", f"{TREE}/{directory}/{environments.SETUP}")
    return Command(words, {"LC_ALL": "C", "PATH": "/usr/bin:/bin"})


check = said(f"{environments.SOURCED} files")

SCENARIO = of_command("sourced-shell", "software", command, check, bundle_begins="")
