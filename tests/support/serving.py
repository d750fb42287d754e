"""A real `nearfs serve` for tests, on a free port, with its access log.

Owns the start, the readiness and the end of the server process. Called from the test's own thread; the server is
another process.
"""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import processes
from tests.support.waiting import wait_until

READY_LIMIT_S = 20.0


@dataclass(frozen=True)
class Server:
    """A running server: `url` has neither path nor trailing slash."""

    url: str
    process: subprocess.Popen[bytes]
    access_log: Path
    output: Path

    def requests(self) -> list[dict[str, Any]]:
        """Returns the lines of the access log so far, oldest first."""
        if not self.access_log.exists():
            return []
        return [json.loads(line) for line in self.access_log.read_text("utf-8").splitlines()]


@contextlib.contextmanager
def serving(
    root: Path,
    scratch: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    within: Sequence[str] = (),
    options: Sequence[str | Path] = (),
) -> Iterator[Server]:
    """Serves the repositories below `root`; the server's files are in `scratch`, which must be of this server alone.

    `within` are words before the command, such as those that enter another network namespace, which then has `host`;
    `options` are more of the command.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    ready, access_log, output = scratch / "ready", scratch / "access.jsonl", scratch / "output"
    command: list[str | Path] = [*within, sys.executable, "-m", "nearfs.cli.main", "serve", "--host", host]
    command += ["--port", str(port), "--root", root, "--ready-file", ready, "--access-log", access_log, *options]
    with processes.started(command, output) as process:

        def url() -> str:
            if process.poll() is not None:
                message = f"nearfs serve ended with {process.returncode}:\n{output.read_text(errors='replace')}"
                raise AssertionError(message)
            return ready.read_text("utf-8").strip() if ready.exists() else ""

        yield Server(wait_until(url, READY_LIMIT_S, "nearfs serve is ready").rstrip("/"), process, access_log, output)


def free_port() -> int:
    """Returns a port of 127.0.0.1 that nobody listened on a moment ago: for things that refuse, not for servers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
