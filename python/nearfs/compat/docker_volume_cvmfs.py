"""`docker-volume-cvmfs`: the volume plugin that Docker finds as the driver `cvmfs` (server.md 11.1).

Owns: the options of the command. Does not own: what it does (`cli.docker_volume_cmd`).
Threading: main thread.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nearfs.cli import docker_volume_cmd, output
from nearfs.cli.docker_volume_cmd import LIMIT_S, LONGEST_LIMIT_S, SOCKET, STATE, Places
from nearfs.containers import installing
from nearfs.errors import NearfsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NAME = "docker-volume-cvmfs"
_PATH = click.Path(path_type=Path)
_TIMEOUT = click.IntRange(1, LONGEST_LIMIT_S)
_MOUNT_COMMAND = (sys.executable, "-m", "nearfs.compat.mount_cvmfs")


def _with_places(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say where things are."""
    options = (
        click.option("--socket", default=SOCKET, show_default=True, type=_PATH, help="Where Docker asks."),
        click.option("--state", default=STATE, show_default=True, type=_PATH, help="What is remembered, and mounted."),
        click.option("--mountpoint", type=_PATH, help="Directory of the mounts.  [default: STATE/mounts]"),
    )
    for option in reversed(options):
        function = option(function)
    return function


_timeout = click.option(
    "--timeout", default=LIMIT_S, show_default=True, type=_TIMEOUT, help="Seconds within which a request is answered."
)
_units = click.option("--units", default=installing.UNITS, show_default=True, type=_PATH, help="Units of systemd.")
_discovery = click.option(
    "--discovery", default=installing.DISCOVERY, show_default=True, type=_PATH, help="Plugins that Docker looks for."
)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@_with_places
@_timeout
@click.option("--verbose", is_flag=True, help="Say what is mounted and unmounted for whom.")
@click.pass_context
def command(
    context: click.Context, socket: Path, state: Path, mountpoint: Path | None, timeout: int, *, verbose: bool
) -> int:
    """Volumes of Docker from CernVM-FS repositories: driver `cvmfs`. Without a command: serves, until SIGTERM.

    \b
    docker run --volume-driver cvmfs -v myapps.example.com@trunk-previous:/myapps ...
    docker volume create -d cvmfs --name sw -o repository=myapps.example.com -o tag=v1

    Names are FQRN (the newest revision, and those after it), FQRN@TAG, FQRN@ROOTHASH and FQRN#DATE (UTC:
    2026-01-31 or 2026-01-31T235900Z). Options are repository, tag, hash, date and parameters such as
    CVMFS_HTTP_PROXY. What a client needs to know comes from /etc/cvmfs, as for any other mount.
    """  # noqa: D301 the mark is for click
    if context.invoked_subcommand is not None:
        return 0
    return docker_volume_cmd.serve(Places(socket, state, mountpoint), timeout, _MOUNT_COMMAND, verbose=verbose)


@command.command("list")
@_with_places
def list_volumes(socket: Path, state: Path, mountpoint: Path | None) -> int:
    """List volumes, their revisions, and how often they are in use."""
    return docker_volume_cmd.show(Places(socket, state, mountpoint))


@command.command("install")
@_with_places
@_timeout
@_units
@_discovery
def install(
    socket: Path, state: Path, mountpoint: Path | None, timeout: int, units: Path, discovery: Path
) -> int:  # fmt: skip
    """Write the units by which systemd starts the plugin, and the file by which Docker finds it."""
    program = os.path.abspath(sys.argv[0])
    starts = [program] if os.access(program, os.X_OK) else [sys.executable, "-m", "nearfs.compat.docker_volume_cvmfs"]
    words = [*starts, "--socket", str(socket), "--state", str(state), "--timeout", str(timeout)]
    words += ["--mountpoint", str(mountpoint)] if mountpoint else []
    return docker_volume_cmd.install(words, Places(socket, state, mountpoint), timeout, units, discovery)


@command.command("uninstall")
@_with_places
@_units
@_discovery
def uninstall(socket: Path, state: Path, mountpoint: Path | None, units: Path, discovery: Path) -> int:
    """Remove what `install` wrote; volumes and what is mounted stay."""
    return docker_volume_cmd.uninstall(Places(socket, state, mountpoint), units, discovery)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    try:
        code = command.main(args=None if arguments is None else list(arguments), prog_name=_NAME, standalone_mode=False)
    except NearfsError as error:
        output.complain(f"{_NAME}: {error}")
        return error.exit_code
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        output.complain(f"{_NAME}: {error.format_message()}; see {_NAME} --help")
        return error.exit_code
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
