"""The trees of the scenarios, by name: each built once in a run, published, and kept as plain files beside it.

Owns what is in each tree. Does not own the builders of single kinds of content (`modulefiles`, `python_copy`, `build`).
"""

import compileall
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.trees.build import build_small_files
from bench.trees.crowd import build_lone, build_notes
from bench.trees.environments import build_environment
from bench.trees.material import MIB, Text, settle, write_file
from bench.trees.modulefiles import build_modulefiles
from bench.trees.python_copy import copy_python
from bench.trees.untuned import build_untuned

MODULES = 1000
# Pure Python, about 1,600 files, and nothing that has to be built; its import opens several hundred of them.
PACKAGES = ("sympy==1.13.3", "mpmath==1.3.0")
FILES = 1_200
FILES_BYTES = 5_000_000
FILE_PACKAGES = 5
BIG_FILE_BYTES = 1024 * MIB
WIDE_ENTRIES = 200_000
_INSTALL_LIMIT_S = 600


@dataclass(frozen=True)
class Recipe:
    """How a tree is made."""

    title: str
    #: Fills a directory that does not exist yet.
    build: Callable[[Path], object]


def _software(tree: Path) -> None:
    write_file(tree / ".cvmfsdirtab", b"/sw/*\n/packages/*\n/modules\n/env/*\n/notes\n/lone\n")
    copy_python(tree / "sw" / "python", pycache=True)
    build_modulefiles(tree / "modules", MODULES)
    build_environment(tree / "env" / "physics", 1)
    build_environment(tree / "env" / "chemistry", 2)
    build_notes(tree / "notes")
    build_lone(tree / "lone")
    packages = tree / "packages" / "sympy"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target"]
    # Without the project's own constraints, which know nothing of these.
    environment = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
    subprocess.run([*command, str(packages), *PACKAGES], check=True, timeout=_INSTALL_LIMIT_S, env=environment)
    # Compiled files that are checked by their source's content would read both: by time and size, as pip makes them.
    compileall.compile_dir(packages, quiet=2)


def _files(tree: Path) -> None:
    build_small_files(tree, FILES, FILES_BYTES, FILE_PACKAGES)


def _modules(tree: Path) -> None:
    build_modulefiles(tree, MODULES)


def _big(tree: Path) -> None:
    text = Text(1)
    tree.mkdir(parents=True, exist_ok=True)
    with (tree / "big").open("wb") as out:
        for number in range(BIG_FILE_BYTES // (4 * MIB)):
            out.write(text.cut(f"part {number}", 4 * MIB))
    settle(tree)


def _wide(tree: Path) -> None:
    directory = tree / "wide"
    directory.mkdir(parents=True)
    for number in range(WIDE_ENTRIES):
        (directory / f"entry-{number:06d}").write_bytes(b"")
    settle(tree)


RECIPES: Mapping[str, Recipe] = {
    "software": Recipe("CPython, SymPy, 1,000 modulefiles and what else a site has", _software),
    "modules": Recipe("1,000 modulefiles", _modules),
    "files": Recipe(f"{FILES:,} small files in {FILE_PACKAGES} packages", _files),
    "many": Recipe("30,000 small files in 50 packages", build_small_files),
    "big": Recipe("one file of 1 GiB", _big),
    "untuned": Recipe("Perl's library, Docutils with a CPython, C++ headers", build_untuned),
    "wide": Recipe("a directory of 200,000 entries", _wide),
}
