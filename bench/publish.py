"""Publishing, measured: `python -m bench.publish [--files N] [--catalogs N] [--rounds N] [--directory DIR] [--keep]`.

Runs the commands of a release manager in a repository of its own: publishes a tree of small files, opens a transaction,
publishes one changed file, checks; with stock and with fast deflate within each round. Reads, deflates (zlib level 6)
and hashes the same files on all cores as a bound. With `--ingest` the tree comes as a tar stream that never is on disk,
which is how a million files are measured, and in the end is deleted and collected as garbage. Prints medians, with
processor time and largest memory of each command; `--keep` writes a result. The reference's seconds are those of
another machine of this kind, never a pair.

Owns the tree and the arithmetic. Needs root and FUSE. Main thread only; the bound has a process for each core.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.machine import write_result

FQRN = "speed.example.org"
REFERENCE_S = {"tree": 10.1, "one file": 0.93, "transaction": 0.09, "check": 0.53}
_WORDS = ["return", "self.", "value", "import", "    def ", "(other)", " = ", "None\n", "for ", "index", " in ", ":\n"]
_FILES_EACH_DIRECTORY = 50
_LIMIT_S = 3600
# A process of its own starts the command: the largest memory of a process is never less than that of its parent.
_MEASURING = """
import json, os, sys, time
start = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - start
cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
print("\\n" + json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_rss_bytes": peak}))
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


@dataclass(frozen=True)
class Tree:
    """Text that deflates about as well as source code, evenly in nested catalogs."""

    files: int
    catalogs: int
    file_bytes: int

    def paths(self) -> Iterator[tuple[str, str | None]]:
        """Yields each file's path, with the directory of a catalog before its first file."""
        for top in range(self.catalogs):
            yield f"package{top:04}", None
            for number in range(top, self.files, self.catalogs):
                yield f"package{top:04}/module{number // self.catalogs // _FILES_EACH_DIRECTORY}/file{number}.py", ""

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Yields markers and files, each directory's entries together."""
        source = random.Random(5)
        for path, kind in self.paths():
            if kind is None:
                yield f"{path}/.cvmfscatalog", b""
                continue
            content = f"{path}\n"
            while len(content) < self.file_bytes:
                content += "".join(source.choices(_WORDS, k=20)) + f"{source.getrandbits(32):x}"
            yield path, content[: self.file_bytes].encode("ascii")

    def show(self, root: Path) -> None:
        """Writes the tree."""
        for path, content in self.contents():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)

    def stream(self, descriptor: int) -> None:
        """Writes the tree as a tar archive; a reader that goes away ends it."""
        gone = contextlib.suppress(BrokenPipeError)
        with (
            gone,
            open(descriptor, "wb") as out,
            tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for path, content in self.contents():
                member = tarfile.TarInfo(path)
                member.size, member.mtime = len(content), 1_700_000_000
                archive.addfile(member, io.BytesIO(content))


@dataclass(frozen=True)
class Publisher:
    """A repository of its own below a directory."""

    prefix: Path

    @property
    def union(self) -> Path:
        """Returns where the tree is changed."""
        return self.prefix / "cvmfs" / FQRN

    def run(self, *words: str, stdin: int = subprocess.DEVNULL) -> dict[str, float]:
        """Runs a command; returns its seconds, its processor time and its largest memory."""
        command = [sys.executable, "-m", "nearfs.compat.cvmfs_server", *words]
        environment = {**os.environ, "NEARFS_PREFIX": str(self.prefix)}
        measuring = [sys.executable, "-S", "-c", _MEASURING, *command]
        done = subprocess.run(
            measuring, env=environment, stdin=stdin, capture_output=True, text=True, check=False, timeout=_LIMIT_S
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: failed\n{done.stdout}{done.stderr}")
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


def publishing(prefix: Path, effort: str, at_the_end: contextlib.ExitStack) -> Publisher:
    """Returns a repository that deflates with `effort`, to be removed when all is measured."""
    publisher = Publisher(prefix)
    site = prefix / "etc" / "cvmfs" / "server.local"
    site.parent.mkdir(parents=True)
    site.write_text(f"NEARFS_DEFLATE={effort}\nCVMFS_FILE_MBYTE_LIMIT=0\n")
    publisher.run("mkfs", "-p", "-g", "-z", "-o", "root", FQRN)
    at_the_end.callback(publisher.run, "rmfs", "-f", FQRN)
    return publisher


def _deflate(paths: list[str]) -> int:
    return sum(len(hashlib.sha1(zlib.compress(Path(path).read_bytes(), 6)).digest()) for path in paths)


def bound(root: Path) -> dict[str, float]:
    """Returns what reading, deflating and hashing alone takes on all cores."""
    paths = [str(path) for path in root.rglob("*.py")]
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores) as pool:
        wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        list(pool.map(_deflate, [paths[start::cores] for start in range(cores)]))
        wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall_s": wall, "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def _published(publisher: Publisher, tree: Tree, *, ingest: bool) -> dict[str, float]:
    if not ingest:
        publisher.run("transaction", FQRN)
        tree.show(publisher.union)
        return publisher.run("publish", FQRN)
    reading, writing = os.pipe()
    feeding = threading.Thread(target=tree.stream, args=(writing,))
    feeding.start()
    try:
        return publisher.run("ingest", "-t", "-", "-b", "tree", FQRN, stdin=reading)
    finally:
        os.close(reading)
        feeding.join()


def one_round(
    directory: Path, tree: Tree, efforts: list[str], at_the_end: contextlib.ExitStack, *, ingest: bool
) -> dict[str, dict[str, float]]:
    """Returns the cells of one round."""
    cells: dict[str, dict[str, float]] = {}
    changed = next(path for path, kind in tree.paths() if kind is not None)
    for effort in efforts:
        publisher = publishing(directory / effort, effort, at_the_end)
        cells[f"tree, {effort}"] = _published(publisher, tree, ingest=ingest)
        cells[f"transaction, {effort}"] = publisher.run("transaction", FQRN)
        below = publisher.union / "tree" if ingest else publisher.union
        (below / changed).write_text("changed")
        cells[f"one file, {effort}"] = publisher.run("publish", FQRN)
        cells[f"check, {effort}"] = publisher.run("check", FQRN)
        if ingest:
            cells[f"delete, {effort}"] = publisher.run("ingest", "-d", "tree", FQRN)
            # The tag of the revision before the last would keep all of it.
            publisher.run("transaction", FQRN)
            publisher.run("publish", FQRN)
            cells[f"gc, {effort}"] = publisher.run("gc", "-f", "-r", "0", FQRN)
    return cells


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.publish", description="Measures publishing.")
    parser.add_argument("--files", type=int, default=30_000)
    parser.add_argument("--catalogs", type=int, default=50)
    parser.add_argument("--bytes", type=int, default=4000, help="of each file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--efforts", default="stock,fast", help="stock, fast or both, with a comma")
    parser.add_argument("--ingest", action="store_true", help="the tree comes as a tar stream")
    parser.add_argument("--directory", type=Path, help="where trees and storages are made")
    parser.add_argument("--keep", action="store_true", help="write a result into bench/results")
    options = parser.parse_args(arguments)
    tree = Tree(options.files, options.catalogs, options.bytes)
    rounds: list[dict[str, Any]] = []
    # Nothing is removed before all is measured: ext4 passes over each inode that was freed in the last minutes, one by
    # one, so that a round after a removal takes twice the processor time, all of it in the kernel.
    with tempfile.TemporaryDirectory(dir=options.directory) as top, contextlib.ExitStack() as at_the_end:
        if not options.ingest:
            tree.show(Path(top, "tree"))
        for number in range(options.rounds):
            load = os.getloadavg()[0]
            efforts = options.efforts.split(",")
            order = efforts if number % 2 == 0 else efforts[::-1]
            cells = one_round(Path(top, f"round{number}"), tree, order, at_the_end, ingest=options.ingest)
            if not options.ingest:
                cells["bound"] = bound(Path(top, "tree"))
            rounds.append({**cells, "load": {"before": load}})
            print(f"round {number + 1} of {options.rounds} is done", file=sys.stderr)
    for cell in (name for name in rounds[0] if name != "load"):
        wall = statistics.median(one[cell]["wall_s"] for one in rounds)
        cpu = statistics.median(one[cell]["cpu_s"] for one in rounds)
        peak = max(one[cell].get("peak_rss_bytes", 0) for one in rounds) >> 20
        is_reference_tree = (options.files, options.catalogs, options.bytes) == (30_000, 50, 4000)
        reference = REFERENCE_S.get(cell.partition(",")[0]) if is_reference_tree else None
        beside = f"; reference, other machine of this kind: {reference} s" if reference else ""
        print(f"{cell}: {wall:.3f} s, {cpu:.3f} s of processor time, {peak} MiB{beside}")
    if options.keep:
        about = {"files": options.files, "catalogs": options.catalogs, "file_bytes": options.bytes}
        about |= {"is_stream": options.ingest}
        print(write_result("publish", {**about, "reference_s": REFERENCE_S, "rounds": rounds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
