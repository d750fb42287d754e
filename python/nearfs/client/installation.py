"""What the client needs on a machine: user, directories, the automount map, the mount helper (client.md 2.4 and 2.6).

Owns the steps of `cvmfs_config setup`, each of which leaves alone what is there already. Does not own: the order and
the words (`cli.client_setup_cmd`), the checks (`checks`).
Threading: one thread; programs of the system are run one after the other, each with a deadline.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nearfs.errors import LocalIo, NotFound

AUTOMOUNT_MAP = "/etc/auto.cvmfs"
MASTER_DIRECTORY = "/etc/auto.master.d"
MASTER_FILE = "/etc/auto.master"
MASTER_ENTRY = f"{MASTER_DIRECTORY}/cvmfs.autofs"
SYSTEMD_DIRECTORY = "/etc/systemd/system"
SYSTEMD_OVERRIDE = f"{SYSTEMD_DIRECTORY}/autofs.service.d/cvmfs-autosetup.conf"
MOUNT_HELPER = "/sbin/mount.cvmfs"
_COMMAND_LIMIT_S = 60.0

# automount runs it with the name that somebody looked up; what it prints is how to mount that.
AUTOMOUNT_PROGRAM = """\
#!/bin/sh
# Program map of automount for CernVM-FS: /cvmfs/<repository> is mounted at the first access.
# Written by `cvmfs_config setup`.
LC_ALL=C
export LC_ALL
case "$1" in
    "" | [!A-Za-z0-9]* | *[!A-Za-z0-9._-]* | *.) exit 1 ;;
    *.*) echo "-fstype=cvmfs :$1" ;;
    *) exit 1 ;;
esac
"""

# automount must not take the clients with it when it is restarted.
SYSTEMD_TEXT = "[Service]\nKillMode=process\n"

# The values that the reference's package ships (client.md 1.4, `[conf]`).
DEFAULT_CONFIGURATION = """\
# Defaults of the CernVM-FS client, as `cvmfs_config setup` wrote them. Values of your site belong into default.local,
# those of a domain or repository into domain.d and config.d.
CVMFS_CLIENT_PROFILE=
CVMFS_CACHE_BASE=/var/lib/cvmfs
CVMFS_SHARED_CACHE=yes
CVMFS_QUOTA_LIMIT=4000
CVMFS_STRICT_MOUNT=no
CVMFS_KEYS_DIR=/etc/cvmfs/keys
CVMFS_TIMEOUT=5
CVMFS_TIMEOUT_DIRECT=10
CVMFS_PROXY_RESET_AFTER=300
CVMFS_HOST_RESET_AFTER=1800
CVMFS_USE_GEOAPI=no
CVMFS_NFILES=131072
CVMFS_CHECK_PERMISSIONS=yes
CVMFS_CLAIM_OWNERSHIP=yes
if [ -z "$CVMFS_BASE_ENV" ]; then
    readonly CVMFS_USER=cvmfs
    readonly CVMFS_MOUNT_DIR=/cvmfs
    readonly CVMFS_RELOAD_SOCKETS=/var/run/cvmfs
    readonly CVMFS_BASE_ENV=1
fi
"""


def make_configuration(root: str) -> None:
    """Writes `default.conf` where there is none, and the directories beside it."""
    for name in ("config.d", "default.d", "domain.d", "keys"):
        Path(root, name).mkdir(parents=True, exist_ok=True)
    if not os.path.exists(f"{root}/default.conf"):
        _write(f"{root}/default.conf", DEFAULT_CONFIGURATION, 0o644)


def make_user(name: str, home: str) -> None:
    """Makes the system user and group of the client, and lets it use FUSE where a group may."""
    try:
        grp.getgrnam(name)
    except KeyError:
        _run("groupadd", "--system", name)
    try:
        pwd.getpwnam(name)
    except KeyError:
        description = "CernVM-FS service account"
        options = ("--system", "--gid", name, "--home-dir", home, "--no-create-home", "--shell", "/usr/sbin/nologin")
        _run("useradd", *options, "--comment", description, name)
    try:
        members = grp.getgrnam("fuse").gr_mem
    except KeyError:
        return
    if name not in members:
        _run("usermod", "--append", "--groups", "fuse", name)


def make_directory(path: str, owner: str | None) -> None:
    """Makes a directory with its parents; gives it to `owner` if told and if that user exists."""
    Path(path).mkdir(mode=0o755, parents=True, exist_ok=True)
    if owner is not None:
        try:
            entry = pwd.getpwnam(owner)
        except KeyError:
            return
        os.chown(path, entry.pw_uid, entry.pw_gid)


def make_mount_helper() -> str | None:
    """Links `/sbin/mount.cvmfs`, which `mount -t cvmfs` looks for, to ours where there is none; returns the target."""
    if os.path.lexists(MOUNT_HELPER):
        return None
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "mount.cvmfs")
    target = beside if os.access(beside, os.X_OK) else shutil.which("mount.cvmfs")
    if target is None:
        message = f"mount.cvmfs is not installed: link it to {MOUNT_HELPER} by hand, or `mount -t cvmfs` fails"
        raise NotFound(message, operation="set up mount helper", subject=MOUNT_HELPER)
    os.symlink(target, MOUNT_HELPER)
    return target


def make_automount_map(mount_dir: str) -> None:
    """Writes the program map and the line that makes automount use it, and keeps its restarts from ending clients."""
    _write(AUTOMOUNT_MAP, AUTOMOUNT_PROGRAM, 0o755)
    line = f"{mount_dir} {AUTOMOUNT_MAP}\n"
    if os.path.isdir(MASTER_DIRECTORY):
        _write(MASTER_ENTRY, line, 0o644)
    else:
        text = Path(MASTER_FILE).read_text("utf-8", "surrogateescape") if os.path.exists(MASTER_FILE) else ""
        if not names_map(text):
            _write(MASTER_FILE, f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{line}", 0o644)
    if os.path.isdir(SYSTEMD_DIRECTORY):
        Path(SYSTEMD_OVERRIDE).parent.mkdir(parents=True, exist_ok=True)
        _write(SYSTEMD_OVERRIDE, SYSTEMD_TEXT, 0o644)


def names_map(master: str) -> bool:
    """Tells whether a master map has our map in a line that is no comment."""
    lines = (line.partition("#")[0].split() for line in master.splitlines())
    return any(AUTOMOUNT_MAP in words[1:2] for words in lines)


def start_automount() -> str | None:
    """Starts automount, now and at every boot; returns why it was not started, None if it runs."""
    commands: list[tuple[str, ...]]
    if os.path.isdir("/run/systemd/system"):
        services = ("daemon-reload",), ("enable", "autofs"), ("restart", "autofs")
        commands = [("systemctl", *words) for words in services]
    elif shutil.which("service"):
        commands = [("service", "autofs", "restart")]
    else:
        return "neither systemd nor service is here: start automount by hand"
    for command in commands:
        try:
            _run(*command)
        except (NotFound, LocalIo) as error:
            return str(error)
    return None


def _run(*command: str) -> None:
    """Runs a program of the system; raises `NotFound` where it is missing, `LocalIo` with its complaint otherwise."""
    words = " ".join(command)
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_COMMAND_LIMIT_S)
    except FileNotFoundError:
        raise NotFound(f"`{words}`: {command[0]} is not installed", operation="set up", subject=command[0]) from None
    except subprocess.TimeoutExpired:
        message = f"`{words}` did not end within {_COMMAND_LIMIT_S:.0f} s"
        raise LocalIo(message, operation="set up", subject=command[0]) from None
    if done.returncode != 0:
        raise LocalIo(f"`{words}` failed: {done.stderr.strip()}", operation="set up", subject=command[0])


def _write(path: str, text: str, mode: int) -> None:
    """Replaces a file, all or nothing."""
    directory = os.path.dirname(path)
    with tempfile.NamedTemporaryFile(
        "w", dir=directory, encoding="utf-8", errors="surrogateescape", delete=False
    ) as new:
        new.write(text)
        new.flush()
        os.fchmod(new.fileno(), mode)
        os.fsync(new.fileno())
    os.replace(new.name, path)
