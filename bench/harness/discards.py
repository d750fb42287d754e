"""What a run has no more use for, kept until its end.

Owns a directory in that of the run. Removing files slows down those who create files next: a file system without a
journal passes over inodes freed in the last minutes one by one, which would be charged to whoever is measured then.
Safe in any thread.
"""

import shutil
import threading
import time
from pathlib import Path

from bench.harness import enclosure

_NAME = "discards"
# With less than this free, room is worth more than a fair start.
_FREE_BYTES_MIN = 8 << 30
_lock = threading.Lock()


def discard(path: Path) -> None:
    """Takes a directory out of the way; it is gone when the run ends, or now where there is no run or little room."""
    home = enclosure.home()
    if home is None or home.stat().st_dev != path.parent.stat().st_dev:
        shutil.rmtree(path, ignore_errors=True)
        return
    place = home / _NAME
    with _lock:
        if shutil.disk_usage(home).free < _FREE_BYTES_MIN:
            shutil.rmtree(place, ignore_errors=True)
        place.mkdir(exist_ok=True)
        if path.exists():
            path.rename(place / f"{path.name}-{time.monotonic_ns()}")
