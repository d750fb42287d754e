"""A real Squid for tests, on a free port, with its access log.

Owns configuration, start and end. Called from the test's own thread; Squid is another process, which runs as `proxy`.
"""

import contextlib
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.lab.namespaces import inside
from tests.support import cables, processes, serving
from tests.support.waiting import wait_until

READY_LIMIT_S = 30.0
OWNER = "proxy"
PORT = 3128  # of a machine of its own


@dataclass(frozen=True)
class Squid:
    """A running Squid: `url` is what a client is configured with."""

    url: str
    process: subprocess.Popen[bytes]
    access_log: Path

    def requests(self) -> list[str]:
        """Returns the URLs that it was asked for so far, oldest first."""
        return [line.split()[6] for line in self.access_log.read_text("utf-8").splitlines()]


def missing() -> str | None:
    """Returns why no Squid can be started here."""
    return None if shutil.which("squid") else "squid is not installed (ci/setup lab does it)"


@contextlib.contextmanager
def running(*, host: str = "127.0.0.1", namespace: str = "", more: str = "") -> Iterator[Squid]:
    """Starts a Squid that caches in memory, and ends it.

    `namespace` is the network namespace that has `host`, as `ip netns` knows it; `more` are lines of configuration.
    """
    port = PORT if namespace else serving.free_port()
    within = cables.within(namespace) if namespace else []
    # Its own user must be able to write the log, which it cannot below a test's directory.
    with tempfile.TemporaryDirectory(prefix="nearfs-squid-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        log = home / "access.log"
        log.touch()
        shutil.chown(log, OWNER)
        configuration = home / "squid.conf"
        configuration.write_text(
            f"http_port {host}:{port}\nhttp_access allow all\ncache_mem 64 MB\nmaximum_object_size_in_memory 8 MB\n"
            f"cache_effective_user {OWNER}\npid_filename none\ncache_log /dev/null\ncache_store_log none\n"
            f"access_log stdio:{log} logformat=squid\nbuffered_logs off\nshutdown_lifetime 0 seconds\n"
            f"visible_hostname here\npinger_enable off\ncoredump_dir none\n{more}"
        )
        command = [*within, "squid", "-N", "-n", f"test{secrets.token_hex(4)}", "-d", "1", "-f", str(configuration)]
        with processes.started(command, home / "output") as process:

            def connects() -> bool:
                with socket.socket() as probe:
                    probe.settimeout(1)
                    return probe.connect_ex((host, port)) == 0

            def answers() -> bool:
                if process.poll() is not None:
                    message = f"squid ended with {process.returncode}:\n{(home / 'output').read_text(errors='replace')}"
                    raise AssertionError(message)
                return inside(namespace, connects) if namespace else connects()

            wait_until(answers, READY_LIMIT_S, "squid answers")
            yield Squid(f"http://{host}:{port}", process, log)
