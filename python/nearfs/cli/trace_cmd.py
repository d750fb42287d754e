"""Owns `nearfs trace`: what a client learned of the programs in a repository, shown, copied and forgotten.

Works on the files in the cache directory, whether the repository is mounted or not: a client reads them when a program
starts. For root, or the user whose client it is. Main thread.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from nearfs.cli import output
from nearfs.config import layers
from nearfs.errors import LocalIo, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from nearfs.client.traces import Trace

_HOUR_S, _DAY_S = 3600.0, 86_400.0


@click.group("trace")
def command() -> None:
    """Show what the client learned of programs: the files that they open when they start.

    A program that ran once is brought at once when its files are missing: after a new revision, on an emptied cache, or
    on another machine to which its traces were copied.
    """


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    cache_dir = click.option(
        "--cache-dir", metavar="DIRECTORY", help="The cache directory, instead of the one that is configured."
    )
    return click.argument("repository")(cache_dir(function))


def _directory(repository: str, cache_dir: str | None) -> tuple[str, Path]:
    from nearfs.client import traces

    fqrn = layers.complete_name(repository)
    candidates = traces.places(fqrn, None if cache_dir is None else os.path.abspath(cache_dir))
    return fqrn, traces.become_owner(candidates)


def _facts(trace: Trace) -> dict[str, object]:
    return {
        "name": trace.name,
        "trigger": os.fsdecode(trace.trigger),
        "after": None if trace.after is None else os.fsdecode(trace.after),
        "is_shared": trace.listing == "shared",
        "is_unordered": trace.listing == "unordered",
        "files": len(trace.items),
        "size_bytes": len(trace.content),
        "age_s": round(trace.age_s),
    }


def _age(age_s: float) -> str:
    return f"{age_s / _DAY_S:.0f} days" if age_s >= 2 * _DAY_S else f"{age_s / _HOUR_S:.0f} hours"


def _shown(path: bytes) -> str:
    """Returns a path for a terminal: nothing in it is a command to that."""
    return "".join(chr(byte) if 0x20 < byte < 0x7F else f"%{byte:02X}" for byte in path)


@command.command("list")
@_common
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(*, repository: str, cache_dir: str | None, as_json: bool) -> None:
    """List the programs of REPOSITORY that were learned: trigger, files, age.

    Where one trigger has several uses, the files that they share come first, and each use after the first file that it
    has for itself.
    """
    from nearfs.client import traces

    fqrn, directory = _directory(repository, cache_dir)
    found, damaged = traces.read_all(directory)
    if as_json:
        known = [_facts(trace) for trace in found]
        output.json_document({"repository": fqrn, "directory": str(directory), "traces": known, "damaged": damaged})
        return
    rows = [
        [
            _shown(trace.trigger),
            "-" if trace.after is None else _shown(trace.after),
            str(len(trace.items)),
            output.readable_size(len(trace.content)),
            _age(trace.age_s),
        ]
        for trace in found
    ]
    output.table(["Trigger", "After", "Files", "Size", "Age"], rows)
    if damaged:
        output.complain(f"{damaged} files in {directory} are no traces; they are ignored")


@command.command("show")
@_common
@click.argument("trigger")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(*, repository: str, cache_dir: str | None, trigger: str, as_json: bool) -> None:
    """Show the files that are brought for TRIGGER, a path in REPOSITORY such as /bin/python3.

    Numbers after a file that is stored in chunks are the offsets of those that were read.
    """
    from nearfs.client import traces

    _, directory = _directory(repository, cache_dir)
    found = traces.of_trigger(directory, os.fsencode(trigger))
    if as_json:
        items = [[{"path": os.fsdecode(path), "offsets": offsets} for path, offsets in one.items] for one in found]
        known = [{**_facts(trace), "items": listed} for trace, listed in zip(found, items, strict=True)]
        output.json_document({"traces": known})
        return
    for trace in found:
        kind = {"shared": ", shared by all uses", "unordered": ", or any of them"}.get(trace.listing, "")
        where = _shown(trace.trigger) if trace.after is None else f"{_shown(trace.trigger)}, {_shown(trace.after)}"
        output.line(f"After {where}{kind}:")
        for line in traces.lines(trace):
            output.line(f"  {line}")


@command.command("export")
@_common
@click.argument("file")
def export_command(*, repository: str, cache_dir: str | None, file: str) -> None:
    """Write all traces of REPOSITORY to FILE (- for standard output), for `import` on another machine.

    They name files that programs of this machine's users opened.
    """
    from nearfs.client import traces

    try:
        # Before root becomes the owner of the cache, who may not write everywhere.
        to_file = None if file == "-" else open(file, "xb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise LocalIo(f"cannot write {file}: {error.strerror}", operation="export traces", subject=file) from error
    try:
        fqrn, directory = _directory(repository, cache_dir)
        found, _ = traces.read_all(directory)
        if not found:
            raise NotFound(f"there are no traces in {directory}", operation="export traces", subject=str(directory))
        content = traces.packed(fqrn, found)
        if to_file is None:
            output.content(content)
            return
        to_file.write(content)
        to_file.close()
    except BaseException:
        if to_file is not None:
            to_file.close()
            os.unlink(file)
        raise
    output.line(f"exported: {len(found)} traces of {fqrn}")


@command.command("import")
@_common
@click.argument("file")
def import_command(*, repository: str, cache_dir: str | None, file: str) -> None:
    """Take the traces in FILE (- for standard input) over, in place of those of the same programs.

    All of them are checked before any is written. What they name and the repository does not have is passed over.
    """
    from nearfs.client import traces

    limit = traces.BYTES_LIMIT + 1
    try:
        if file == "-":
            content = sys.stdin.buffer.read(limit)
        else:
            with open(file, "rb") as opened:
                content = opened.read(limit)
    except OSError as error:
        raise LocalIo(f"cannot read {file}: {error.strerror}", operation="import traces", subject=file) from error
    found = traces.unpacked(layers.complete_name(repository), content)
    fqrn, directory = _directory(repository, cache_dir)
    traces.put(directory, found)
    output.line(f"imported: {len(found)} traces of {fqrn}")


@command.command("forget")
@_common
@click.argument("trigger", required=False)
@click.option("--all", "everything", is_flag=True, help="Forget everything that was learned of the repository.")
def forget_command(*, repository: str, cache_dir: str | None, trigger: str | None, everything: bool) -> None:
    """Forget what was learned of TRIGGER, a path in REPOSITORY, or --all."""
    from nearfs.client import traces

    if everything == (trigger is not None):
        raise click.UsageError("name a trigger, or say --all")
    _, directory = _directory(repository, cache_dir)
    count = traces.forget(directory, None if trigger is None else os.fsencode(trigger))
    output.line(f"forgotten: {count} traces")
