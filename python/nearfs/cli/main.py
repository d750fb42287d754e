"""Owns the `nearfs` command: finds a subcommand's module when it is called for, and ends with an exit code.

Does not own what a command does: one module `<verb>_cmd.py` per command, in which `command` is the click command.
A subcommand is imported only to run it (or to print its own help), so that `nearfs --help` starts fast. Main thread.
"""

import importlib
import sys

import click

from nearfs.cli import output
from nearfs.errors import NearfsError

# Command -> (module in nearfs.cli, one line of help): the help of the group is printed without importing any of them.
COMMANDS: dict[str, tuple[str, str]] = {
    "bundle": ("bundle_cmd", "Record, show and publish lists of files that are read together."),
    "image": ("image_cmd", "Keep container images in a repository, unpacked: unpack, ls, rm."),
    "publish": ("publish_cmd", "Publish a directory or a tar archive into a path of a repository."),
    "replica": ("replica_cmd", "Keep replicas up to date: schedule, unschedule, status."),
    "serve": ("serve_cmd", "Serve repositories over HTTP."),
    "status": ("status_cmd", "What the clients on this machine counted, and what fetching ahead earned."),
    "trace": ("trace_cmd", "What the client learned of programs: list, show, export, import, forget."),
    "web-config": ("web_config_cmd", "Print configurations of Apache, nginx, Varnish and Squid."),
}


class LazyGroup(click.Group):
    """A click group that imports the module of a command at the first use of that command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the click command `cmd_name`, or None when there is none of this name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = importlib.import_module(f"nearfs.cli.{entry[0]}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"nearfs.cli.{entry[0]}.command is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def nearfs() -> None:
    """CernVM-FS, rebuilt for latency: publish, serve, replicate and mount repositories."""


def main(arguments: list[str] | None = None) -> int:
    """Runs `nearfs` with `arguments` (default: those of the process) and returns the exit code.

    An error that nearfs raised on purpose becomes one sentence on standard error and its own exit code.
    """
    try:
        code = nearfs.main(args=arguments, prog_name="nearfs", standalone_mode=False)
    except NearfsError as problem:
        output.complain(f"nearfs: {problem}")
        return problem.exit_code
    except click.exceptions.Abort:
        return 130
    except click.ClickException as problem:
        context = problem.ctx if isinstance(problem, click.UsageError) else None
        if context is not None:
            output.complain(context.get_usage())
        output.complain(f"nearfs: {problem.format_message()}")
        return problem.exit_code
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
