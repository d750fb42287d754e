"""Replication, measured: `python -m bench.replication [--files N] [--rtt MS] [--rate MBIT] [--rounds N] [--keep]`.

A repository of small files is served by nginx: over loopback, and at the far end of an emulated line. An empty replica
makes its initial snapshot, then one with nothing new. Prints medians of seconds, the requests that the server saw, and
the least that the bytes take on the line; `--keep` writes a result. The reference's seconds are those of another
machine of this kind, over loopback with 16 workers: never a pair.

Owns the story and its arithmetic. Needs root, FUSE and nginx. Runs in mount and process namespaces of its own. Main
thread only.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.harness import enclosure, ours
from bench.harness.machine import write_result
from bench.harness.result import LineKey
from bench.lab import line as lines
from bench.lab import servers
from bench.publish import Tree

FQRN = "copies.example.org"
REFERENCE_S = 18.6
_LIMIT_S = 1800
_PORT = 8098


def _server(prefix: Path, *words: str, within: list[str] | None = None, stdin: int = subprocess.DEVNULL) -> float:
    """Runs `cvmfs_server` on the machine of `prefix`; returns its seconds."""
    begun = time.perf_counter()
    done = subprocess.run(
        [*(within or []), str(ours.BIN / "cvmfs_server"), *words],
        env={**os.environ, "NEARFS_PREFIX": str(prefix)},
        stdin=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_S,
    )
    if done.returncode:
        raise SystemExit(f"cvmfs_server {' '.join(words)}: failed\n{done.stdout}{done.stderr}")
    return time.perf_counter() - begun


def publish(prefix: Path, tree: Tree) -> Path:
    """Makes the repository; returns the directory to be served."""
    _server(prefix, "mkfs", "-p", "-o", "root", FQRN)
    reading, writing = os.pipe()
    feeding = threading.Thread(target=tree.stream, args=(writing,))
    feeding.start()
    try:
        _server(prefix, "ingest", "-t", "-", "-b", "tree", FQRN, stdin=reading)
    finally:
        os.close(reading)
        feeding.join()
    return prefix / "srv" / "cvmfs"


@contextlib.contextmanager
def on_loopback(home: Path, root: Path) -> Iterator[str]:
    """Serves a directory with nginx on this machine; yields its URL."""
    configuration, log = home / "nginx.conf", home / "access"
    configuration.write_text(
        f"user root; worker_processes 1; daemon off; pid {home}/pid; error_log {home}/errors;\n"
        "events { worker_connections 2048; }\n"
        f"http {{ access_log {log}; keepalive_requests 1000000; server {{ listen 127.0.0.1:{_PORT};\n"
        f"location /cvmfs/ {{ alias {root}/; }} }} }}\n"
    )
    server = subprocess.Popen([shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(configuration)])
    try:
        deadline = time.monotonic() + 20
        while not (home / "pid").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{_PORT}"
    finally:
        server.terminate()
        server.wait(20)


def replicate(home: Path, url: str, key: Path, within: list[str]) -> dict[str, float]:
    """Returns the seconds of an initial snapshot and of one with nothing new, and the bytes that are stored then."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    _server(home, "add-replica", "-p", "-o", "root", f"{url}/cvmfs/{FQRN}", str(key), within=within)
    first = _server(home, "snapshot", FQRN, within=within)
    again = _server(home, "snapshot", FQRN, within=within)
    stored = sum(path.stat().st_size for path in (home / "srv" / "cvmfs" / FQRN / "data").rglob("*") if path.is_file())
    return {"initial_s": first, "again_s": again, "stored_bytes": stored}


def measure(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Returns what was measured."""
    prefix = home / "source"
    prefix.mkdir()
    root = publish(prefix, Tree(options.files, options.catalogs, options.bytes))
    key = prefix / "etc" / "cvmfs" / "keys" / f"{FQRN}.pub"
    far = []
    for directory in ("loopback", "web"):
        (home / directory).mkdir()
    with on_loopback(home / "loopback", root) as url:
        loopback = [replicate(home / f"replica{number}", url, key, []) for number in range(options.rounds)]
    line_key = LineKey(options.rtt, options.rate)
    with lines.up(line_key, f"nearfs-rep-{os.getpid()}") as line, contextlib.ExitStack() as stack:
        web = stack.enter_context(servers.nginx(home / "web", line, root))
        for number in range(options.rounds):
            before, crossed = web.served(), line.traffic().down_bytes
            cell = replicate(home / f"far{number}", web.url, key, line.near_command())
            cell["requests"] = (web.served().requests or 0) - (before.requests or 0)
            cell["bytes"] = line.traffic().down_bytes - crossed
            cell["line_s"] = cell["bytes"] * 8 / (options.rate * 1e6)
            far.append(cell)
    about = {"files": options.files, "catalogs": options.catalogs, "file_bytes": options.bytes}
    return {**about, "line": str(line_key), "loopback": loopback, "far": far, "reference_loopback_s": REFERENCE_S}


def _median(cells: list[dict[str, float]], name: str) -> float:
    return statistics.median(cell[name] for cell in cells)


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="bench.replication", description="Measures replication.")
    parser.add_argument("--files", type=int, default=30_000)
    parser.add_argument("--catalogs", type=int, default=50)
    parser.add_argument("--bytes", type=int, default=4000, help="of each file")
    enclosure.add_options(parser)
    options = parser.parse_args(words)
    home = enclosure.home()
    if home is None:
        return enclosure.enter("bench.replication", words, options.directory)
    enclosure.prepare()
    found = measure(options, home)
    near, far = found["loopback"], found["far"]
    print(f"loopback: {_median(near, 'initial_s'):.2f} s, again {_median(near, 'again_s'):.2f} s")
    print(f"          (reference, other machine of this kind, 30,000 files: {REFERENCE_S} s)")
    print(
        f"{found['line']}: {_median(far, 'initial_s'):.2f} s, again {_median(far, 'again_s'):.2f} s; "
        f"{_median(far, 'requests'):.0f} requests; the bytes alone take {_median(far, 'line_s'):.2f} s"
    )
    if options.keep:
        print(write_result("replication", found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
