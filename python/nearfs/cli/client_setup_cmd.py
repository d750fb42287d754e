"""`cvmfs_config` setup and chksetup: making a machine ready, and telling what is missing (client.md 2.6).

Owns: the order of the steps, the texts and exit codes. Does not own: the steps (`client.installation`) and the checks
(`client.checks`). Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.client import checks, installation
from nearfs.config import layers
from nearfs.config.model import DEFAULT_CACHE_BASE

if TYPE_CHECKING:
    from collections.abc import Sequence

OPTIONS = frozenset({"nouser", "nocfgmod", "nostart", "noautofs"})
_DEFAULT_USER = "cvmfs"
_DEFAULT_MOUNT_DIR = "/cvmfs"
_FAILED = 1


def set_up(words: Sequence[str]) -> int:
    """Makes user, directories, automount map and mount helper, and starts automount; repeating it does no harm."""
    for word in words:
        if word not in OPTIONS:
            output.complain(f"Bad option: {word}")
            return _FAILED
    with_map = not {"nocfgmod", "noautofs"} & set(words)
    with_start = not {"nostart", "noautofs"} & set(words)
    if with_map:
        installation.make_configuration(layers.DEFAULT_ROOT)
    settings = layers.load("")
    user = settings.get("CVMFS_USER") or _DEFAULT_USER
    mount_dir = settings.get("CVMFS_MOUNT_DIR") or _DEFAULT_MOUNT_DIR
    base = settings.get("CVMFS_CACHE_BASE") or DEFAULT_CACHE_BASE
    if "nouser" not in words:
        installation.make_user(user, base)
    installation.make_directory(mount_dir, None)
    installation.make_directory(base, user)
    target = installation.make_mount_helper()
    if target is not None:
        output.line(f"Linked {installation.MOUNT_HELPER} to {target}")
    if with_map:
        installation.make_automount_map(mount_dir)
    reason = installation.start_automount() if with_start else None
    if reason is not None:
        output.complain(f"automount was not started: {reason}")
        return _FAILED
    return 0


def check() -> int:
    """Prints what is wrong, or OK; returns the number of errors."""
    errors = warnings = 0
    for finding in checks.all_findings():
        output.line(str(finding))
        errors += finding.is_error
        warnings += not finding.is_error
    if errors == warnings == 0:
        output.line("OK")
    return errors
