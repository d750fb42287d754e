"""`mount.cvmfs`: what `mount -t cvmfs` and autofs call (client.md 2.3).

Owns: the checks before a mount and the two exit codes: 1 before `cvmfs2` is started, 32 after.
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import getopt
import os
import pwd
import shlex
import sys
from typing import TYPE_CHECKING

from nearfs.cli import mount_client_cmd, output
from nearfs.client.options import MountOptions
from nearfs.client.privileges import Owner
from nearfs.config import layers, names, values
from nearfs.errors import InvalidInput, NearfsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfs.config.layers import Settings

_REFUSED = 1
_MOUNT_FAILED = 32
_ARGUMENTS = 2
USAGE = "Usage: mount.cvmfs [-v] [-n] [-f] [-h] [-o options] <repository> <mount point>"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        flags, rest = getopt.gnu_getopt(words, "vnfhso:", ["help"])
    except getopt.GetoptError as error:
        output.complain(f"mount.cvmfs: {error}\n{USAGE}")
        return _REFUSED
    if {("-h", ""), ("--help", "")} & set(flags):
        output.line(USAGE)
        return 0
    if len(rest) != _ARGUMENTS:
        output.complain(USAGE)
        return _REFUSED
    option_list = ",".join(value for flag, value in flags if flag == "-o")
    try:
        fqrn, options = _prepare(rest[0], option_list)
    except NearfsError as error:
        output.complain(str(error))
        return _REFUSED
    if ("-f", "") in flags:
        output.line(shlex.join(["cvmfs2", "-o", ",".join(options.taken), fqrn, rest[1]]))
        return 0
    failed = _REFUSED if options.remount else _MOUNT_FAILED
    return failed if mount_client_cmd.run(fqrn, rest[1], options) else 0


def _prepare(device: str, option_list: str) -> tuple[str, MountOptions]:
    """Returns the repository name and the options that a system mount gets, after the checks of the reference."""
    name = device.rstrip("/").rpartition("/")[2] if device.startswith("/") else device
    if not names.is_valid_name(name):
        raise InvalidInput(f"Invalid repository: {device}", operation="mount", subject=device)
    options = MountOptions()
    options.take(option_list)
    fqrn = layers.complete_name(name) if options.config_files is None else names.check_fqrn(name)
    settings = layers.load(fqrn, files=options.config_files, override=options.override)
    if not os.path.exists("/dev/fuse"):
        raise InvalidInput("Fuse not loaded", operation="mount", subject=fqrn)
    _check_strict(settings, fqrn)
    if not settings.get("CVMFS_HTTP_PROXY"):
        raise InvalidInput("CVMFS_HTTP_PROXY required", operation="mount", subject=fqrn)
    user = settings.get("CVMFS_USER")
    if not user:
        raise InvalidInput("CVMFS_USER required", operation="mount", subject=fqrn)
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        message = f"Failed to find user {user} in passwd database"
        raise InvalidInput(message, operation="mount", subject=user) from None
    options.take(f"system_mount,fsname=cvmfs2,allow_other,grab_mountpoint{_identity(entry)}")
    return fqrn, options


def _identity(entry: pwd.struct_passwd) -> str:
    """Returns the options that make the client run as CVMFS_USER; none, with a word why, where that is impossible."""
    owner = Owner(entry.pw_uid, entry.pw_gid)
    if os.geteuid() != 0:
        reason = "only root may change the user"
    elif not owner.exists_here:
        reason = "this user namespace has no such user"
    else:
        return f",uid={owner.uid},gid={owner.gid}"
    if not owner.is_current:
        output.complain(f"CernVM-FS: running as the calling user instead of {entry.pw_name}: {reason}")
    return ""


def _check_strict(settings: Settings, fqrn: str) -> None:
    if not settings.is_on("CVMFS_STRICT_MOUNT"):
        return
    domain = settings.get("CVMFS_DEFAULT_DOMAIN") or ""
    allowed = {
        name if "." in name else f"{name}.{domain}" for name in values.split(settings, "CVMFS_REPOSITORIES", ",")
    }
    if fqrn not in allowed | {settings.get("CVMFS_CONFIG_REPOSITORY")}:
        message = f"Not allowed to mount {fqrn}, add it to CVMFS_REPOSITORIES"
        raise InvalidInput(message, operation="mount", subject=fqrn)


if __name__ == "__main__":
    sys.exit(main())
