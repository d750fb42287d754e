"""Web servers and proxies at the ends of a line, each started for one measurement and ended with it.

Owns their configurations (all below one directory) and their lives. Does not own what is asked of them. The servers
log nothing that is counted: requests are counted by the client that makes them, bytes by the line.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.lab.line import FAR_ADDRESS, NEAR_ADDRESS, Line
from bench.lab.namespaces import inside

PORT = 8000
PROXY_PORT = 3128
_READY_LIMIT_S = 20.0
_END_LIMIT_S = 10.0


class ServerError(Exception):
    """A server did not start; the text has the end of its log."""


@contextlib.contextmanager
def nearfs_serve(home: Path, line: Line, storage: Path) -> Iterator[str]:
    """Runs `nearfs serve` at the far end and yields `http://ADDRESS:PORT`."""
    program = Path(sys.executable).parent / "nearfs"
    words = ["serve", "--host", FAR_ADDRESS, "--port", str(PORT), "--root", str(storage)]
    with _running(line.far_command(str(program), *words), home / "serve.log", line.far, FAR_ADDRESS, PORT):
        yield f"http://{FAR_ADDRESS}:{PORT}"


@contextlib.contextmanager
def nginx(home: Path, line: Line, storage: Path) -> Iterator[str]:
    """Runs nginx at the far end over the same files and yields `http://ADDRESS:PORT`."""
    places = "".join(
        f"    {kind}_temp_path {home}/nginx-{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = home / "nginx.conf"
    configuration.write_text(
        f"""user root;
worker_processes 2;
pid {home}/nginx.pid;
error_log {home}/nginx.log;
daemon off;
events {{ worker_connections 1024; }}
http {{
{places}    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 100000;
    server {{
        listen {FAR_ADDRESS}:{PORT} backlog=1024;
        location /cvmfs/ {{ alias {storage}/; }}
    }}
}}
""",
        "utf-8",
    )
    command = line.far_command("nginx", "-c", str(configuration), "-e", f"{home}/nginx.log")
    with _running(command, home / "nginx.out", line.far, FAR_ADDRESS, PORT):
        yield f"http://{FAR_ADDRESS}:{PORT}"


class Squid:
    """A Squid at the near end of a line, as a site has it: memory and disk cache, one worker."""

    def __init__(self, home: Path, line: Line) -> None:
        self._home = home
        self._line = line
        self._stack = contextlib.ExitStack()
        self.url = f"http://{NEAR_ADDRESS}:{PROXY_PORT}"

    def start_empty(self) -> None:
        """Starts it with nothing cached; ends it first if it runs."""
        self.stop()
        configuration = self._home / "squid.conf"
        configuration.write_text(
            f"""http_port {NEAR_ADDRESS}:{PROXY_PORT}
http_access allow all
cache_mem 512 MB
maximum_object_size 1024 MB
maximum_object_size_in_memory 16 MB
memory_cache_mode always
cache_effective_user proxy
pid_filename none
cache_log /dev/null
access_log none
cache_store_log none
shutdown_lifetime 1 seconds
visible_hostname near
pinger_enable off
""",
            "utf-8",
        )
        command = self._line.near_command(
            "squid", "-N", "-n", f"bench{os.getpid()}", "-d", "1", "-f", str(configuration)
        )
        out = self._home / "squid.out"
        self._stack.enter_context(_running(command, out, self._line.near, NEAR_ADDRESS, PROXY_PORT))

    def stop(self) -> None:
        """Ends it; does nothing where it does not run."""
        self._stack.close()


@contextlib.contextmanager
def _running(command: list[str], log: Path, namespace: str, address: str, port: int) -> Iterator[None]:
    with log.open("ab") as out:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/")
    try:
        deadline = time.monotonic() + _READY_LIMIT_S
        while not _answers(namespace, address, port):
            if server.poll() is not None or time.monotonic() > deadline:
                words = " ".join(command[2:4])
                raise ServerError(f"{words} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_END_LIMIT_S)
        server.kill()
        server.wait()


def _answers(namespace: str, address: str, port: int) -> bool:
    """Tells whether something listens there, asked from inside the namespace: nothing crosses the line."""

    def ask() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((address, port)) == 0

    return inside(namespace, ask)
