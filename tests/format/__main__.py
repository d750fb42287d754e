"""The command `python -m tests.format`: check a repository directory, or list a snapshot of it.

Exit codes: 0 for a good repository, 1 for problems (one a line). Owns nothing but arguments and printing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .check import check_repository
from .errors import FormatError
from .listing import list_tree
from .objects import unreferenced_objects


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.format", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    check = verbs.add_parser("check", help="print every problem of a repository directory")
    check.add_argument("directory", type=Path)
    check.add_argument("--key", type=Path, action="append", required=True, help="master public key, PEM; may repeat")
    check.add_argument("--fqrn", required=True)
    check.add_argument("--no-objects", action="store_true", help="do not read file objects and chunks")
    check.add_argument("--strict-reflog", action="store_true", help="require that manifest field Y is current")
    check.add_argument("--stray", action="store_true", help="also report objects that nothing refers to")
    listing = verbs.add_parser("list", help="print a snapshot as JSON lines")
    listing.add_argument("directory", type=Path)
    listing.add_argument("snapshot", help="tag name or root hash")
    return parser.parse_args()


def _lines(arguments: argparse.Namespace) -> tuple[list[str], int]:
    if arguments.verb == "list":
        return list_tree(arguments.directory, arguments.snapshot), 0
    problems = check_repository(
        arguments.directory,
        [path.read_bytes() for path in arguments.key],
        arguments.fqrn,
        verify_objects=not arguments.no_objects,
        strict_reflog=arguments.strict_reflog,
    )
    if arguments.stray:
        problems += [f"object {name}: nothing refers to it" for name in unreferenced_objects(arguments.directory)]
    return problems, 1 if problems else 0


def main() -> int:
    """Runs the command and returns its exit code."""
    try:
        lines, code = _lines(_arguments())
    except (FormatError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(line + "\n" for line in lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
