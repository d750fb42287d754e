"""Owns the command `nearfs serve`: its options, what it says, and the file that tells it is ready.

Decides nothing about HTTP (`nearfs.serve` does). Main thread, until a signal ends it.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import click

from nearfs.cli import output
from nearfs.errors import InvalidInput, PermissionDenied

DEFAULT_ROOT = Path("/srv/cvmfs")


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address or name to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=click.Path(path_type=Path),
    help=f"Directory with one directory per repository; may be repeated, the first that has a repository serves it."
    f"  [default: {DEFAULT_ROOT}, unless --repository is given]",
)
@click.option("--repository", "pairs", multiple=True, metavar="FQRN=DIR", help="One repository; may be repeated.")
@click.option("--access-log", type=click.Path(path_type=Path), help="Append a JSON line per request to this file.")
@click.option(
    "--geo-table",
    type=click.Path(path_type=Path),
    help="Answer the geo API from this file: a network, its latitude and its longitude a line.",
)
@click.option(
    "--geo-database",
    type=click.Path(path_type=Path),
    help="Answer the geo API from this MaxMind database of cities (needs nearfs[geo]).",
)
@click.option(
    "--status/--no-status",
    "has_status",
    default=True,
    show_default=True,
    help="Show the state of the repositories at /status, for machines at /status.json and /metrics.",
)
@click.option(
    "--stratum0",
    "masters",
    multiple=True,
    metavar="FQRN=URL",
    help="Where a replica comes from, to tell how far it is behind; may be repeated."
    "  [default: what server.conf of replicas of this machine says]",
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="Write the URL to this file when requests are answered; it is removed at the end.",
)
def command(
    *,
    host: str,
    port: int,
    roots: tuple[Path, ...],
    pairs: tuple[str, ...],
    access_log: Path | None,
    geo_table: Path | None,
    geo_database: Path | None,
    has_status: bool,
    masters: tuple[str, ...],
    ready_file: Path | None,
) -> None:
    """Serve repositories over HTTP at http://HOST:PORT/cvmfs/FQRN, until SIGTERM or SIGINT.

    Prints "listening on URL" when requests are answered. Serves only the names that a repository can have, and
    no file outside the given directories.
    """
    from nearfs.serve.access_log import AccessLog
    from nearfs.serve.app import RepositoryApp
    from nearfs.serve.geo.api import GeoApi
    from nearfs.serve.geo.atlas import open_atlas
    from nearfs.serve.listener import base_url, listen, run
    from nearfs.serve.roots import Roots
    from nearfs.serve.status import replicas
    from nearfs.serve.status.pages import StatusPages
    from nearfs.serve.status.stratum0 import Masters
    from nearfs.serve.status.survey import Survey
    from nearfs.serve.traffic import Traffic

    repositories = _repositories(pairs)
    asked = replicas.configured(replicas.default_directory()) | replicas.given(masters)
    traffic = Traffic()
    served = Roots(roots or (() if repositories else (DEFAULT_ROOT,)), repositories)
    with contextlib.ExitStack() as at_end:
        log = None if access_log is None else at_end.enter_context(AccessLog(access_log))
        atlas = open_atlas(geo_table, geo_database)
        if atlas is not None:
            at_end.callback(atlas.close)
        listening = at_end.enter_context(listen(host, port))
        url = base_url(listening)

        def announce() -> None:
            if ready_file is not None:
                _write_ready_file(ready_file, url)
                at_end.callback(ready_file.unlink, missing_ok=True)
            output.line(f"listening on {url}")
            sys.stdout.flush()  # whoever waits for the line is most often behind a pipe

        geo = None if atlas is None else GeoApi(atlas)
        pages = StatusPages(Survey(served, Masters(asked)), traffic, geo) if has_status else None
        run(RepositoryApp(served, log, geo=geo, pages=pages, traffic=traffic), listening, announce)


def _repositories(pairs: tuple[str, ...]) -> dict[str, Path]:
    """Returns the directories by repository from `FQRN=DIR` texts. Raises InvalidInput."""
    repositories: dict[str, Path] = {}
    for pair in pairs:
        name, separator, directory = pair.partition("=")
        if not (separator and name and directory):
            raise InvalidInput(f"--repository {pair!r} is not of the form FQRN=DIR")
        if name in repositories:
            raise InvalidInput(f"--repository names {name!r} twice; a repository has one directory")
        repositories[name] = Path(directory)
    return repositories


def _write_ready_file(path: Path, url: str) -> None:
    """Puts the URL into `path` in one step, so that a reader sees all of it or no file. Raises PermissionDenied."""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as out:
                out.write(url + "\n")
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as problem:
        raise PermissionDenied(
            f"cannot write the ready file {path}: {problem.strerror}; name a writable place with --ready-file",
            exit_code=1,
        ) from None
