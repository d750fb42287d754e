"""Our own commands as a user types them, with a publisher below a directory of its own.

Owns how they are found and started. Every run is bounded. Any thread.
"""

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def run(words: list[str], prefix: Path, limit_s: float) -> subprocess.CompletedProcess[str]:
    """Runs a command of ours, its directories below `prefix`; returns it with its output, whatever its exit code."""
    return subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        env={**os.environ, "NEARFS_PREFIX": str(prefix)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
