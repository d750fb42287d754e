"""Web servers and proxies at the ends of a line, each started for one measurement and ended with it.

Owns their configurations (all below one directory), their lives, and what they log of requests. Does not own what is
asked of them.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.harness import ours
from bench.harness.commands import Counts
from bench.lab.line import FAR_ADDRESS, NEAR_ADDRESS, Line
from bench.lab.namespaces import inside

PORT = 8000
PROXY_PORT = 3128
_READY_LIMIT_S = 20.0
_END_LIMIT_S = 10.0
# Servers log a request when it is done, which may be a moment after the client has its answer.
_LOG_QUIET_S, _LOG_LIMIT_S = 0.02, 2.0


class ServerError(Exception):
    """A server did not start; the text has the end of its log."""


class WebServer:
    """A running web server: `url` is `http://ADDRESS:PORT`; its log has a JSON object with `bytes` for each request."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log
        self._read = 0
        self._counts = Counts(0, 0)

    def served(self) -> Counts:
        """Returns requests and bytes of bodies so far; waits a moment for the lines of what has just been served."""
        deadline = time.monotonic() + _LOG_LIMIT_S
        size = -1
        while size != self._size() and time.monotonic() < deadline:
            size = self._size()
            time.sleep(_LOG_QUIET_S)
        if size <= self._read:
            return self._counts
        with self._log.open("rb") as log:
            log.seek(self._read)
            whole, _, _ = log.read().rpartition(b"\n")
        lines = [json.loads(line) for line in whole.splitlines()]
        self._read += len(whole) + 1 if whole else 0
        requests, sent = self._counts.requests or 0, self._counts.fetched_bytes or 0
        self._counts = Counts(requests + len(lines), sent + sum(int(line["bytes"]) for line in lines))
        return self._counts

    def _size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0


@contextlib.contextmanager
def nearfs_serve(home: Path, line: Line, storage: Path) -> Iterator[WebServer]:
    """Runs `nearfs serve` at the far end."""
    program = ours.BIN / "nearfs"
    log = home / "access.jsonl"
    words = ["serve", "--host", FAR_ADDRESS, "--port", str(PORT), "--root", str(storage), "--access-log", str(log)]
    with _running(line.far_command(str(program), *words), home / "serve.log", line.far, FAR_ADDRESS, PORT):
        yield WebServer(f"http://{FAR_ADDRESS}:{PORT}", log)


@contextlib.contextmanager
def nginx(home: Path, line: Line, storage: Path) -> Iterator[WebServer]:
    """Runs nginx at the far end over the same files."""
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
{places}    log_format counted '{{"bytes": $body_bytes_sent}}';
    access_log {home}/access.jsonl counted;
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
        yield WebServer(f"http://{FAR_ADDRESS}:{PORT}", home / "access.jsonl")


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
