"""Runs one measurement of bench.probe: `python -m bench.probe_command VERB --paths-from FILE --json`.

Owns the command line and the form of the result, one JSON object on one line. Needs nothing but the standard library
and the built extension, so that it also runs where the project is not installed: inside an emulator, say, whose clock
and system calls cost something else (`clock_cost_ns` says what). Main thread only.

Exit codes: 0 measured, even where calls failed (the result counts them); 1 not measured; 2 wrong usage.
"""

import argparse
import errno
import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench import probe

LISTS = ("stat", "open_read_close", "readdir", "first_byte")
FILES = ("read_sequential", "read_random")


def paths_from(place: str, separator: bytes) -> list[bytes]:
    """Returns the paths listed in a file, or on standard input for `-`; empty lines count as nothing."""
    if place == "-":
        listed = sys.stdin.buffer.read()
    else:
        with open(place, "rb") as lines:
            listed = lines.read()
    return [path for path in listed.split(separator) if path]


def arguments_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(prog="bench.probe_command", description="Times system calls one by one.")
    parser.add_argument("verb", choices=(*LISTS, *FILES), metavar="VERB", help=f"of: {', '.join((*LISTS, *FILES))}")
    parser.add_argument("paths", nargs="*", metavar="PATH", type=os.fsencode, help="paths, before those of the list")
    parser.add_argument("--paths-from", metavar="FILE", help="a list of paths, one a line; - for standard input")
    parser.add_argument("-0", "--null", action="store_true", help="paths in the list end with a NUL, not a line feed")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="go over the list N times (default 1)")
    parser.add_argument("--follow", action="store_true", help="stat: follow symbolic links")
    parser.add_argument("--first-bytes", type=int, default=-1, metavar="N", help="open_read_close: only the first N")
    parser.add_argument("--block-bytes", type=int, default=131072, metavar="N", help="size of a read (default 131072)")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="read_random: reads (default 1000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="read_random: order of offsets (default 1)")
    parser.add_argument("--latencies", action="store_true", help="add every latency to the result, in order")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line for people")
    return parser


def measure(options: argparse.Namespace, paths: list[bytes]) -> "probe.Measured":
    """Runs the verb over the paths; files are read one by one only, so their verbs take exactly one path."""
    from bench import probe

    if options.verb == "stat":
        return probe.stat(paths, follow=options.follow)
    if options.verb == "open_read_close":
        return probe.open_read_close(paths, first_bytes=options.first_bytes)
    if options.verb == "readdir":
        return probe.readdir(paths)
    if options.verb == "first_byte":
        return probe.first_byte(paths)
    if options.verb == "read_sequential":
        return probe.read_sequential(paths[0], block_bytes=options.block_bytes)
    return probe.read_random(paths[0], block_bytes=options.block_bytes, count=options.count, seed=options.seed)


def result(verb: str, measured: "probe.Measured", *, with_latencies: bool = False) -> dict[str, Any]:
    """Returns a measurement as JSON values. Times in nanoseconds, `total_s` in seconds."""
    from bench import probe

    failures = {errno.errorcode.get(number, str(number)): count for number, count in measured.failures.items()}
    found: dict[str, Any] = {
        "verb": verb,
        **measured.histogram.summary(),
        "total_s": measured.total_s,
        "bytes_read": measured.bytes_read,
        "entries": measured.entries,
        "failures": failures,
        "failed": measured.failed_histogram.summary(),
        "clock_cost_ns": probe.clock_cost_ns(),
        "buckets": measured.histogram.buckets(),
    }
    if with_latencies:
        found["latencies_ns"] = measured.latencies_ns.tolist()
    return found


def line(found: dict[str, Any]) -> str:
    """Returns a result as a line for people."""
    times = ", ".join(f"{name} {found[f'{name}_ns'] / 1000:.1f} us" for name in ("p50", "p90", "p99", "max"))
    failures = "".join(f", {count} {name}" for name, count in found["failures"].items())
    return f"{found['verb']}: {found['count']} calls in {found['total_s']:.3f} s: {times}{failures}"


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the result and returns the exit code."""
    parser = arguments_parser()
    options = parser.parse_args(arguments)
    try:
        listed = paths_from(options.paths_from, b"\0" if options.null else b"\n") if options.paths_from else []
        paths = [*options.paths, *listed]
        if not paths:
            parser.error("no path: name some, or give --paths-from FILE")
        if options.repeat < 1:
            parser.error("--repeat: 1 or more")
        if options.verb in FILES and (len(paths) != 1 or options.repeat != 1):
            parser.error(f"{options.verb} reads one file, once")
        measured = measure(options, paths * options.repeat)
    except ImportError as error:
        print(f"bench.probe_command: {error}; `python -m bench.build_probe` builds it", file=sys.stderr)
        return 1
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        print(f"bench.probe_command: {options.verb}: {error}", file=sys.stderr)
        return 1
    found = result(options.verb, measured, with_latencies=options.latencies)
    print(json.dumps(found) if options.json else line(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
