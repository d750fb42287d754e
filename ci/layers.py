"""Checks the Rust layers of docs/architecture.md: which crate sees which, and which module of the core uses which.

Owns the two tables below and nothing else; import-linter checks the Python side. Crates come from `cargo metadata`,
modules from the `crate::` and `super::` paths in native/core/src. Single-threaded, standard library only.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
METADATA_LIMIT_S = 600  # a fresh clone downloads its crates first

# Crate -> the workspace crates that it may use. Who is missing here has not chosen its layer.
CRATES: Mapping[str, frozenset[str]] = {
    "nearfs-format": frozenset(),
    "nearfs-core": frozenset({"nearfs-format"}),
    "nearfs-fuse": frozenset({"nearfs-core", "nearfs-format"}),
    "nearfs-binding": frozenset({"nearfs-fuse", "nearfs-core", "nearfs-format"}),
    "nearfs-testkit": frozenset({"nearfs-core", "nearfs-format"}),
    "nearfs-relay": frozenset(),  # the emulated line of the benchmarks
}
DEV_ONLY = "nearfs-testkit"

# Crate -> what it must not reach on any path. Format has no I/O, core knows no kernel protocol and no Python.
UNREACHABLE: Mapping[str, frozenset[str]] = {
    "nearfs-format": frozenset({"pyo3", "fuser", "tokio", "hyper", "rusqlite", "rustix", "tempfile"}),
    "nearfs-core": frozenset({"pyo3", "fuser"}),
    "nearfs-fuse": frozenset({"pyo3"}),
    "nearfs-testkit": frozenset({"pyo3", "fuser"}),
}

# Modules of the core, highest first. A module may use any layer below its own, never a sibling.
CORE_LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"client", "publish", "replica"}),
    frozenset({"prefetch"}),
    frozenset({"repo"}),
    frozenset({"catalog"}),
    frozenset({"database"}),  # working copies of SQLite files
    frozenset({"cache"}),
    frozenset({"store"}),
    frozenset({"transport"}),
    frozenset({"progress", "journal"}),  # counters and lines that every layer adds to
    frozenset({"error"}),
)
CORE_ROOT_FILES = frozenset({"lib"})

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_STRING = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)
_ROOTED = re.compile(r"\bcrate\s*::\s*(\{|\w+)")
_RELATIVE = re.compile(r"\b((?:super\s*::\s*)+)(\{|\w+)")
_INLINE_TESTS = re.compile(r"#\[cfg\(test\)\]\s*mod\s+\w+\s*\{")


def crate_violations(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yields a sentence for each dependency in `cargo metadata`'s answer that the crate tables forbid."""
    names = {package["id"]: str(package["name"]) for package in metadata["packages"]}
    edges = {node["id"]: list(_shipped_edges(node)) for node in metadata["resolve"]["nodes"]}
    for member in metadata["workspace_members"]:
        crate = names[member]
        if crate not in CRATES:
            yield f"crate {crate} has no layer: add it to CRATES in ci/layers.py and to docs/architecture.md"
            continue
        for target in sorted({names[edge] for edge in edges[member]}):
            if target == DEV_ONLY:
                yield f"crate {crate} depends on {DEV_ONLY}, which is a dev-dependency only"
            elif target in CRATES and target not in CRATES[crate]:
                yield f"crate {crate} depends on {target}, which stands above or beside it"
        reached = {names[identity] for identity in _reachable(member, edges)}
        for target in sorted(reached & UNREACHABLE.get(crate, frozenset())):
            yield f"crate {crate} reaches {target} (cargo tree -p {crate} -e normal -i {target} shows the way)"


def _shipped_edges(node: Mapping[str, Any]) -> Iterator[str]:
    for dependency in node["deps"]:
        if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
            yield dependency["pkg"]


def _reachable(start: str, edges: Mapping[str, Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in edges[waiting.pop()]:
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return seen


def module_violations(file: str, source: str) -> Iterator[str]:
    """Yields a sentence for each path in `source` that leads from its module to a sibling or to a higher layer.

    `file` is relative to the crate's `src`, with `/` between its parts.
    """
    parts = file.removesuffix(".rs").removesuffix("/mod").split("/")
    own = parts[0]
    if own in CORE_ROOT_FILES:
        return
    own_layer = _layer(own)
    if own_layer is None:
        yield f"{file}: module {own} has no layer: add it to CORE_LAYERS in ci/layers.py and to docs/architecture.md"
        return
    for line, target in _paths(source, len(parts)):
        layer = _layer(target)
        if target != own and layer is not None and layer <= own_layer:
            place = "stands beside it" if layer == own_layer else "is a higher layer"
            yield f"{file}:{line}: {own} uses {target}, which {place}"


def _layer(module: str) -> int | None:
    return next((number for number, layer in enumerate(CORE_LAYERS) if module in layer), None)


def _paths(source: str, depth: int) -> Iterator[tuple[int, str]]:
    """Yields (line, top-level module) for each path that starts at the crate's root, spelled `crate` or `super`."""
    code = _STRING.sub(_blank, _COMMENT.sub(_blank, source))
    tests = _INLINE_TESTS.search(code)
    tests_start = tests.start() if tests else len(code)
    for match in _ROOTED.finditer(code):
        yield from _targets(code, match.start(1), match[1])
    for match in _RELATIVE.finditer(code):
        ups = match[1].count("super")
        if ups >= depth + (match.start() > tests_start):  # the tests' own module is one level more
            yield from _targets(code, match.start(2), match[2])


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _targets(code: str, start: int, first: str) -> Iterator[tuple[int, str]]:
    line = code.count("\n", 0, start) + 1
    if first != "{":
        yield line, first
        return
    level, at_name = 0, False
    for token in re.finditer(r"[{},;]|\w+", code[start:]):
        word = token[0]
        if word == "{":
            level += 1
        elif word == "}":
            level -= 1
        if level == 0 or word == ";":
            return
        if word.isidentifier() and level == 1 and at_name:
            yield line + code.count("\n", start, start + token.start()), word
        at_name = level == 1 and word in "{,"


def main() -> int:
    """Prints every violation in this work tree; returns 1 when there is one."""
    answer = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        timeout=METADATA_LIMIT_S,
    ).stdout
    violations = list(crate_violations(json.loads(answer)))
    sources = ROOT / "native/core/src"
    files = sorted(sources.rglob("*.rs"))
    for path in files:
        violations += module_violations(path.relative_to(sources).as_posix(), path.read_text("utf-8"))
    for violation in violations:
        print(f"layers: {violation}", file=sys.stderr)
    print(f"layers: {len(CRATES)} crates, {len(files)} files of the core, {len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
