"""Reads one small file every so often and times each: what a reader waits whom nothing can help, beside others.

`python -m bench.paced_reader SIGNALS --every-ms N`, with paths, one a line, on standard input. Reads the first path at
once and untimed, so that the way to it is known, and makes the file SIGNALS/ready; then one path every N milliseconds
by the clock, whether the last one took long or not, until SIGNALS/stop is there or no path is left. Prints one JSON
list of [beginning by the monotonic clock, seconds]. Needs the standard library alone. Main thread only.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path


def read(path: str) -> None:
    """Opens, reads and closes a small file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while os.read(descriptor, 1 << 16):
            pass
    finally:
        os.close(descriptor)


def measured(paths: list[str], signals: Path, every_s: float) -> list[tuple[float, float]]:
    """Reads the paths until told to stop; returns when each began and what it took."""
    read(paths[0])
    (signals / "ready").touch()
    stop = signals / "stop"
    found = []
    begin = time.monotonic()
    for number, path in enumerate(paths[1:]):
        time.sleep(max(0.0, begin + number * every_s - time.monotonic()))
        if stop.exists():
            break
        started = time.monotonic()
        read(path)
        found.append((started, time.monotonic() - started))
    return found


def main() -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.paced_reader", description="Times one small read every so often.")
    parser.add_argument("signals", type=Path, help="a directory to say and to hear things in")
    parser.add_argument("--every-ms", type=float, default=200, help="milliseconds (default: 200)")
    options = parser.parse_args()
    paths = sys.stdin.read().splitlines()
    if len(paths) < 2:
        parser.error("name two paths or more on standard input")
    print(json.dumps(measured(paths, options.signals, options.every_ms / 1000)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
