"""`git status` over a tree that nobody changed: one lstat a file, and nothing read."""

import subprocess
from pathlib import Path

from bench.harness.commands import TREE, Command, Run
from bench.harness.processes import CommandFailed
from bench.harness.scenario import of_command

_LIMIT_S = 300
# Inode numbers and change times differ between file systems; size and time of change must do, or all would be read.
_LENIENT = ("-c", "core.checkStat=minimal", "-c", "core.trustctime=false", "-c", "core.fileMode=false")


def command(source: Path) -> Command:
    """Returns the command; the index lies beside the plain tree and was made from it."""
    index = source.with_name(f"{source.name}.git")
    environment = {
        "GIT_DIR": str(index),
        "GIT_WORK_TREE": TREE,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": "/nonexistent",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    if not index.exists():
        inside = {**environment, "GIT_WORK_TREE": str(source)}
        for words in (
            ("init", "-q"),
            ("add", "."),
            ("-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "b"),
        ):
            subprocess.run(["git", *_LENIENT, *words], env=inside, check=True, timeout=_LIMIT_S, cwd=source)
    return Command(("git", "-C", TREE, *_LENIENT, "-c", "safe.directory=*", "status", "--porcelain"), environment)


def check(run: Run) -> None:
    """Raises where git sees a change."""
    if run.stdout:
        raise CommandFailed(f"git status sees changes: {run.stdout[:500]}")


SCENARIO = of_command("stat-storm", "files", command, check)
