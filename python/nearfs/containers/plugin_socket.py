"""The Unix socket at which Docker finds the plugin: made here, or taken over from systemd.

Does not own: the server behind it (`asgi_server`) and what is answered (`protocol`). Threading: called once, at start.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

from nearfs.errors import Busy, PermissionDenied

if TYPE_CHECKING:
    from pathlib import Path

# Only Docker, which is root, may ask: who mounts volumes is root on this machine.
SOCKET_MODE = 0o600
_FIRST_PASSED = 3  # sd_listen_fds(3)
_BACKLOG = 128
_PROBE_LIMIT_S = 2.0


def listen(path: Path) -> tuple[socket.socket, bool]:
    """Returns the listening socket, and whether systemd made it (who then also removes it).

    Raises `Busy` where another plugin answers there, `PermissionDenied` where the socket cannot be made.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)
        os.set_inheritable(_FIRST_PASSED, False)
        return socket.socket(fileno=_FIRST_PASSED), True
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _clear(path)
        listening.bind(str(path))
        os.chmod(path, SOCKET_MODE)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        message = f"cannot listen on {path}: {error.strerror or error}; the plugin of Docker runs as root"
        raise PermissionDenied(message, operation="listen", subject=str(path)) from error
    except BaseException:
        listening.close()
        raise
    return listening, False


def _clear(path: Path) -> None:
    """Removes the socket of a plugin that died; raises `Busy` where one lives."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Busy(f"{path} is no socket; move it away", operation="listen", subject=str(path))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_LIMIT_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass  # it hangs: somebody is there
    raise Busy(f"another plugin answers at {path}; stop it first", operation="listen", subject=str(path))
