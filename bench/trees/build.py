"""Builds the trees that are published and read in measurements; the same arguments give the same tree.

Does not publish, mount or time anything. Run as `python -m bench.trees.build KIND DIR`. Single-threaded.
"""

import argparse
import sys
from pathlib import Path

from bench.trees.material import Text, TreeSize, measure, settle, write_file
from bench.trees.modulefiles import MODULE_COUNT, MODULE_NAME_COUNT, build_modulefiles
from bench.trees.python_copy import copy_python

PACKAGE_COUNT = 50
SMALL_FILE_COUNT = 30_000
SMALL_FILES_BYTES = 120_000_000
ENTRY_COUNT = 8_300
ENTRIES_BYTES = 280_000_000


def build_small_files(
    tree: Path, count: int = SMALL_FILE_COUNT, total_bytes: int = SMALL_FILES_BYTES, packages: int = PACKAGE_COUNT
) -> int:
    """Writes `count` files of about `total_bytes` in `packages` directories, each a nested catalog by its marker.

    Returns the number of files without the `.cvmfscatalog` markers.
    """
    text = Text(30_000)
    sizes = text.sizes(count, total_bytes)
    for number, size in enumerate(sizes):
        package, place = number % packages, number // packages
        path = tree / f"package-{package:02d}" / f"part-{place // 60:02d}" / f"file-{place % 60:02d}.py"
        write_file(path, text.cut(f"package {package} file {place}", size))
    for package in range(min(packages, count)):
        write_file(tree / f"package-{package:02d}" / ".cvmfscatalog", b"")
    settle(tree)
    return count


def build_entries(tree: Path, count: int = ENTRY_COUNT, total_bytes: int = ENTRIES_BYTES) -> TreeSize:
    """Builds a tree of exactly `count` entries and about `total_bytes`: this Python's library and generated files.

    TREE/python is the library, TREE/generated/group-NN/ the rest. Raises ValueError when `count` has no room for the
    library.
    """
    copy_python(tree / "python")
    present = measure(tree)
    missing = count - present.entries - 1  # the directory "generated"
    # One directory for each 40 files.
    groups = -(-missing // 41)
    if missing < 2:
        raise ValueError(f"the standard library alone has {present.entries} entries: ask for more than {count}")
    files = missing - groups
    text = Text(count)
    for number, size in enumerate(text.sizes(files, max(files, total_bytes - present.size_bytes))):
        path = tree / "generated" / f"group-{number % groups:03d}" / f"entry-{number // groups:03d}.txt"
        write_file(path, text.cut(f"entry {number}", size))
    settle(tree / "generated")
    return measure(tree)


KINDS = ("entries", "modulefiles", "small-files", "stdlib")


def main(arguments: list[str] | None = None) -> int:
    """Builds one tree in a new or empty directory and says how large it is. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.trees.build", description="Build a tree for measurements.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("directory", type=Path, help="new or empty directory")
    parser.add_argument("--count", type=int, help="files or entries (not for stdlib)")
    parser.add_argument("--pycache", action="store_true", help="stdlib: keep compiled files")
    chosen = parser.parse_args(arguments)
    tree: Path = chosen.directory
    if tree.exists() and any(tree.iterdir()):
        parser.error(f"{tree} is not empty: name a new directory")
    tree.mkdir(parents=True, exist_ok=True)
    count: int | None = chosen.count
    if chosen.kind == "stdlib":
        copy_python(tree, pycache=chosen.pycache)
    elif chosen.kind == "modulefiles":
        count = count or MODULE_COUNT
        build_modulefiles(tree, count, min(MODULE_NAME_COUNT, count))
    elif chosen.kind == "small-files":
        count = count or SMALL_FILE_COUNT
        build_small_files(tree, count, SMALL_FILES_BYTES * count // SMALL_FILE_COUNT)
    else:
        build_entries(tree, count or ENTRY_COUNT)
    size = measure(tree)
    sys.stdout.write(f"{tree}: {size.entries} entries, {size.files} files, {size.size_bytes} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
