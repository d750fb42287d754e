"""Owns the machine block of a result, and the writing of results. Measures nothing. Single-threaded."""

import json
import os
import platform
import re
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "results"

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_COMMAND_SECONDS = 10
# Programs that are measured, or that measured ones run on.
_PACKAGES = ("git", "lmod", "nfs-ganesha", "nginx-light", "squashfuse", "squid", "user-mode-linux")


def machine_block() -> dict[str, Any]:
    """Returns what a figure depends on: processor, memory, kernel, tools, the commit measured, the date (UTC)."""
    top = Path(__file__).resolve().parent
    changes = _output(["git", "-C", str(top), "status", "--porcelain", "--", ":/", ":(exclude,top)bench/results"])
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu_model": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "ram_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rustc": _output(["rustc", "--version"]),
        "packages": _packages(),
        "git_commit": _output(["git", "-C", str(top), "rev-parse", "HEAD"]),
        "git_dirty": None if changes is None else bool(changes),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_result(name: str, payload: dict[str, Any], directory: Path = RESULTS, now: datetime | None = None) -> Path:
    """Writes `payload` with the machine block to DIRECTORY/NAME-DATE.json (UTC) and returns the path.

    The file appears whole or not at all, and an existing one is never replaced: FileExistsError. Raises ValueError
    for a name that is not lower-case letters, digits, dots and dashes, or a payload with a `machine` of its own.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} cannot name a result: lower-case letters, digits, dots and dashes only")
    if "machine" in payload:
        raise ValueError("the machine block is added here: leave `machine` out of the payload")
    document = json.dumps({"machine": machine_block(), **payload}, indent=2, allow_nan=False) + "\n"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(document)
            out.flush()
            os.fchmod(out.fileno(), 0o644)
            os.fsync(out.fileno())
        # A link, unlike a rename, refuses to replace.
        os.link(temporary, path)
    finally:
        os.unlink(temporary)
    return path


def _packages() -> str | None:
    """Returns NAME VERSION of the Debian packages that rows depend on, as far as they are installed; None elsewhere."""
    listed = _output(["dpkg-query", "-W", "-f", "${Package} ${Version} ${Status}\\n"])
    if listed is None:
        return None
    rows = [row.split(" ") for row in listed.splitlines()]
    return ", ".join(f"{row[0]} {row[1]}" for row in rows if row[0] in _PACKAGES and row[-1] == "installed")


def _output(command: list[str]) -> str | None:
    """Returns what `command` prints, or None when it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _field(path: str, name: str) -> str | None:
    """Returns the first value of `name` in a `name : value` file of the kernel."""
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, separator, value = line.partition(":")
                if separator and key.strip() == name:
                    return value.strip()
    except OSError:
        return None
    return None
