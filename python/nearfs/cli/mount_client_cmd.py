"""Mounts a repository: what `cvmfs2` and `mount.cvmfs` do once their options are read.

Owns: what the user is told. Does not own: the life of the mount (`client.mount`).
Threading: a short-lived command, one thread, that forks the process that serves.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.client import mount, workspace
from nearfs.client.journal import Journal, Weight
from nearfs.client.request import Request
from nearfs.config import layers, model, names
from nearfs.errors import InitCode, InvalidInput, NearfsError, init_failure_line

if TYPE_CHECKING:
    from nearfs.client.options import MountOptions


def parse(fqrn: str, options: MountOptions) -> int:
    """Prints the parameters that a mount would use."""
    settings = layers.load(fqrn, files=options.config_files, simple=options.simple_parsing, override=options.override)
    output.line("# CernVM-FS parameters:")
    for text in settings.dump():
        output.line(text)
    return 0


def _remounted(fqrn: str, mountpoint: str) -> int:
    """Answers `-o remount`: there is nothing to change on a mount, but there has to be one."""
    if workspace.shown_repository(mountpoint) == fqrn:
        return 0
    output.complain(f"Repository {fqrn} is not mounted on {mountpoint}")
    return int(InitCode.UNKNOWN)


def run(fqrn: str, mountpoint: str, options: MountOptions) -> int:
    """Mounts and returns the exit status, which is the reference's start-up code."""
    journal: Journal | None = None
    try:
        names.check_fqrn(fqrn)
        if options.parse_only:
            return parse(fqrn, options)
        if options.remount:
            return _remounted(fqrn, mountpoint)
        for path in options.config_files or ():
            if not os.path.exists(path):
                message = f"configuration file {path} does not exist"
                raise InvalidInput(message, operation="read configuration", exit_code=InitCode.OPTIONS)
        settings = layers.load(
            fqrn, files=options.config_files, simple=options.simple_parsing, override=options.override
        )
        config = model.client_config(settings)
        journal = Journal(config.syslog)
        for warning in config.warnings:
            output.complain(f"CernVM-FS: warning: {warning}")
            journal.log(warning, Weight.WARNING)
        output.line("CernVM-FS: loading Fuse module... done")
        mount.run(Request(config, options, os.path.realpath(mountpoint)), output.line)
    except workspace.AlreadyMounted:
        output.line(f"CernVM-FS: repository {fqrn} already mounted on {mountpoint}")
    except NearfsError as error:
        code = InitCode(error.exit_code) if error.exit_code in set(InitCode) else InitCode.UNKNOWN
        line = init_failure_line(str(error), code)
        output.complain(line)
        if journal is not None:
            journal.log(line, Weight.ERROR)
        return int(code)
    return 0
