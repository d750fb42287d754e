"""Publishing, measured: `python -m bench.publish [--files N] [--catalogs N] [--rounds N] [--directory DIR] [--keep]`.

Publishes a tree of small files and then one changed file in it, through the engine, with stock and with fast deflate
within each round, and reads, deflates (zlib level 6) and hashes the same files on all cores as a bound. Each publish
runs in a process of its own, so that its processor time and its largest memory are its own. Prints medians and ratios
of pairs; `--keep` writes a result. The reference's seconds are those of another machine of this kind, never a pair.

Owns the tree and the arithmetic. Does not measure mounts. Main thread only; the bound has a process for each core.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from bench.harness.machine import write_result

REFERENCE_S = {"tree": 10.1, "one file": 0.93}
_WORDS = ["return", "self.", "value", "import", "    def ", "(other)", " = ", "None\n", "for ", "index", " in ", ":\n"]
_FILE_BYTES = 4000
_FILES_EACH_DIRECTORY = 50


def show(root: Path, files: int, catalogs: int) -> None:
    """Makes the tree: text that deflates about as well as source code, evenly in nested catalogs."""
    source = random.Random(5)
    for number in range(files):
        top = root / f"package{number % catalogs:04}"
        directory = top / f"module{number // catalogs // _FILES_EACH_DIRECTORY}"
        if not directory.is_dir():
            directory.mkdir(parents=True)
            (top / ".cvmfscatalog").touch()
        content = ""
        while len(content) < _FILE_BYTES:
            content += "".join(source.choices(_WORDS, k=20)) + f"{source.getrandbits(32):x}"
        (directory / f"file{number}.py").write_text(content[:_FILE_BYTES])


def measure(call: dict[str, Any]) -> dict[str, Any]:
    """Publishes once in this process; returns what came of it and what it took."""
    from nearfs import _native

    storage, call["chunk_sizes"] = call.pop("storage"), tuple(call["chunk_sizes"])
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    done = _native.publish(storage, progress=_native.Progress(), **call)
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = {"wall_s": wall, "cpu_s": cpu, "peak_rss_bytes": after.ru_maxrss * 1024}
    names = ("root_hash", "objects_new", "bytes_new", "catalogs_new")
    return {**figures, **{name: done[name] for name in names}}  # type: ignore[literal-required]


def _in_process(call: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.publish", "--call", json.dumps(call)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=3600)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _deflate(paths: list[str]) -> int:
    return sum(len(hashlib.sha1(zlib.compress(Path(path).read_bytes(), 6)).digest()) for path in paths)


def bound(tree: Path) -> dict[str, float]:
    """Returns what reading, deflating and hashing alone takes on all cores."""
    paths = [str(path) for path in tree.rglob("*") if path.is_file()]
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores) as pool:
        wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        list(pool.map(_deflate, [paths[start::cores] for start in range(cores)]))
        wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": wall, "cpu_s": cpu}


def one_round(directory: Path, tree: Path, upper: Path) -> dict[str, dict[str, Any]]:
    """Returns the cells of one round; the storages vanish with `directory`."""
    from nearfs import _native

    cells: dict[str, dict[str, Any]] = {"bound": dict(bound(tree))}
    for effort in ("stock", "fast"):
        storage = directory / effort
        _native.create_storage(str(storage))
        new = {"fqrn": "speed.example.org", "hash_algorithm": "sha1", "uid": 0, "gid": 0, "now_s": 1}
        head = _native.create_repository(str(storage), volatile=False, **new)  # type: ignore[arg-type]
        call: dict[str, Any] = {
            "storage": str(storage),
            "base_root_hash": head["root_hash"],
            "is_overlay": True,
            "ttl_s": 240,
            "hash_algorithm": "sha1",
            "compression": "default",
            "is_fast": effort == "fast",
            "revision": None,
            "chunk_sizes": (4 << 20, 8 << 20, 16 << 20),
            "include_xattrs": False,
            "include_mtime_ns": False,
            "ignore_special_files": False,
            "now_s": 2,
        }
        cells[f"tree, {effort}"] = _in_process({**call, "source": str(tree)})
        call["base_root_hash"] = cells[f"tree, {effort}"]["root_hash"]
        cells[f"one file, {effort}"] = _in_process({**call, "source": str(upper)})
    return cells


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.publish", description="Measures publishing.")
    parser.add_argument("--files", type=int, default=30_000)
    parser.add_argument("--catalogs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where trees and storages are made")
    parser.add_argument("--keep", action="store_true", help="write a result into bench/results")
    parser.add_argument("--call", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.call:
        print(json.dumps(measure(json.loads(options.call))))
        return 0
    with tempfile.TemporaryDirectory(dir=options.directory) as top:
        tree, upper = Path(top, "tree"), Path(top, "upper")
        show(tree, options.files, options.catalogs)
        changed = next(tree.glob("*/*/*.py")).relative_to(tree)
        (upper / changed).parent.mkdir(parents=True)
        (upper / changed).write_text("changed")
        rounds = []
        for number in range(options.rounds):
            with tempfile.TemporaryDirectory(dir=top) as storages:
                load = os.getloadavg()[0]
                rounds.append({**one_round(Path(storages), tree, upper), "load": {"before": load}})
            print(f"round {number + 1} of {options.rounds} is done", file=sys.stderr)
    for cell in (name for name in rounds[0] if name != "load"):
        wall = statistics.median(one[cell]["wall_s"] for one in rounds)
        cpu = statistics.median(one[cell]["cpu_s"] for one in rounds)
        peak = max(one[cell].get("peak_rss_bytes", 0) for one in rounds) >> 20
        is_reference_tree = (options.files, options.catalogs) == (30_000, 50)
        reference = REFERENCE_S.get(cell.partition(",")[0]) if is_reference_tree else None
        beside = f"; reference, other machine of this kind: {reference} s" if reference else ""
        print(f"{cell}: {wall:.3f} s, {cpu:.3f} s of processor time, {peak} MiB{beside}")
    pairs = [one["tree, stock"]["cpu_s"] / one["tree, fast"]["cpu_s"] for one in rounds]
    print(f"fast against stock, processor time of pairs: {statistics.median(pairs):.2f} times")
    if options.keep:
        about = {"files": options.files, "catalogs": options.catalogs, "file_bytes": _FILE_BYTES}
        print(write_result("publish", {**about, "reference_s": REFERENCE_S, "rounds": rounds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
