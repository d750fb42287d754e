"""nfs-ganesha at the far end of a line: one tree, read-only, by NFSv3 and NFSv4.

Owns its configuration, its start and its end, and the rpcbind that NFSv3 clients ask. Both run in mount and process
namespaces of their own with their own /run, so several may run at once and none outlives its parent. Main thread only.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.lab.line import FAR_ADDRESS, Line
from bench.lab.servers import ServerError

PACKAGES = ("nfs-ganesha", "nfs-ganesha-vfs", "nfs-common", "rpcbind")
#: What clients of either version mount.
EXPORT = "/export"
NFS_PORT = 2049
_PROGRAMS = ("ganesha.nfsd", "rpcbind", "mount.nfs")
_READY_LIMIT_S = 30.0
_END_LIMIT_S = 10.0
_TAIL_BYTES = 2000


def missing() -> str | None:
    """Returns in one sentence what is not installed, None where all is."""
    search = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    absent = [program for program in _PROGRAMS if shutil.which(program, path=search) is None]
    return f"{', '.join(absent)} not installed: apt-get install {' '.join(PACKAGES)}" if absent else None


@contextlib.contextmanager
def exporting(home: Path, line: Line, tree: Path) -> Iterator[str]:
    """Exports `tree` and yields the source to mount, ADDRESS:PATH. `home` is for its configuration, state and
    log. Raises `ServerError`.
    """
    for name in ("run", "state"):
        (home / name).mkdir(parents=True, exist_ok=True)
    log = home / "ganesha.log"
    starter = home / "start"
    (home / "ganesha.conf").write_text(_configuration(home, tree), "utf-8")
    starter.write_text(_starter(home), "utf-8")
    ended, held = os.pipe()
    try:
        with (home / "start.log").open("wb") as stream:
            server = subprocess.Popen(
                line.far_command(
                    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", str(starter)),
                ),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                pass_fds=[held],
                start_new_session=True,
            )
    finally:
        os.close(held)
    try:
        _wait_until_ready(line, server, log)
        yield f"{FAR_ADDRESS}:{EXPORT}"
    finally:
        _end(server, ended)


def _configuration(home: Path, tree: Path) -> str:
    if '"' in str(tree):
        raise ServerError(f"{tree}: a path with a quote cannot be exported")
    # Only_Numeric_Owners: without, the first listing waits minutes for names of users. Mount_Path_Pseudo: NFSv3 mounts
    # the same path as NFSv4. The tree is exported as it is, and nobody locks.
    return f"""
NFS_CORE_PARAM {{
  Protocols = 3,4; NFS_Port = {NFS_PORT}; MNT_Port = 20048; Bind_addr = {FAR_ADDRESS}; Mount_Path_Pseudo = true;
  Enable_NLM = false; Enable_RQUOTA = false;
}}
NFS_KRB5 {{ Active_krb5 = false; }}
NFSV4 {{
  Graceless = true; RecoveryBackend = fs; RecoveryRoot = "{home}/state"; Minor_Versions = 0,1,2;
  Only_Numeric_Owners = true;
}}
EXPORT {{
  Export_Id = 1; Path = "{tree}"; Pseudo = {EXPORT}; Access_Type = RO; Squash = No_Root_Squash; SecType = sys;
  Protocols = 3,4; Transports = TCP; FSAL {{ Name = VFS; }}
}}
"""


def _starter(home: Path) -> str:
    return f"""#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount --bind '{home}/run' /run
mkdir -p /run/ganesha /run/rpcbind /run/lock
rpcbind -w -h {FAR_ADDRESS} -h 127.0.0.1
exec ganesha.nfsd -F -f '{home}/ganesha.conf' -L '{home}/ganesha.log' -p '{home}/ganesha.pid'
"""


def _wait_until_ready(line: Line, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _READY_LIMIT_S
    while not _listens(line):
        if server.poll() is not None or time.monotonic() > deadline:
            why = "ended" if server.poll() is not None else f"does not listen after {_READY_LIMIT_S:g} s"
            raise ServerError(f"nfs-ganesha {why}; its log:\n{_tail(log)}{_tail(log.with_name('start.log'))}")
        time.sleep(0.05)


def _listens(line: Line) -> bool:
    command = line.far_command("cat", "/proc/net/tcp", "/proc/net/tcp6")
    done = subprocess.run(command, capture_output=True, text=True, timeout=_END_LIMIT_S, check=False)
    rows = [row.split() for row in done.stdout.splitlines()]
    return any(len(row) > 3 and row[1].endswith(f":{NFS_PORT:04X}") and row[3] == "0A" for row in rows)


def _end(server: "subprocess.Popen[bytes]", ended: int) -> None:
    """Kills the namespace's parent, which ends all in it: nothing of a read-only server can be lost."""
    server.send_signal(signal.SIGKILL)
    server.wait(_END_LIMIT_S)
    # Every process of it holds the other end.
    with os.fdopen(ended, "rb") as pipe:
        select.select([pipe], [], [], _END_LIMIT_S)


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        return log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
    return ""
