"""A publisher, a server and clients of one benchmark, below one directory, driven by the real commands.

Owns their start and their end. A benchmark that is interrupted leaves no mount behind. Main thread only.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FQRN = "bench.example.org"
COMMAND_LIMIT_S = 600
READY_LIMIT_S = 20
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Site:
    """The directories of one benchmark."""

    home: Path

    @property
    def prefix(self) -> Path:
        """Returns the publisher's directory."""
        return self.home / "publisher"

    @property
    def union(self) -> Path:
        """Returns the tree that a transaction changes."""
        return self.prefix / "cvmfs" / FQRN

    @property
    def storage(self) -> Path:
        """Returns the storage."""
        return self.prefix / "srv" / "cvmfs" / FQRN

    def command(self, *words: str | Path) -> float:
        """Runs one of our commands and returns its seconds."""
        started = time.monotonic()
        done = subprocess.run(
            [str(BIN / str(words[0])), *map(str, words[1:])],
            env={**os.environ, "NEARFS_PREFIX": str(self.prefix)},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, words))}: {done.returncode}\n{done.stdout}{done.stderr}")
        return time.monotonic() - started

    def server(self, verb: str, *words: str | Path) -> float:
        """Runs `cvmfs_server VERB ... FQRN` and returns its seconds."""
        return self.command("cvmfs_server", verb, *words, FQRN)

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Runs `nearfs serve` and yields its URL."""
        ready = self.home / "ready"
        words = ["serve", "--port", "0", "--root", str(self.storage.parent), "--ready-file", str(ready)]
        server = subprocess.Popen([str(BIN / "nearfs"), *words], stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + READY_LIMIT_S
            while not ready.exists():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("nearfs serve did not start")
                time.sleep(0.02)
            yield ready.read_text("utf-8").strip().rstrip("/")
        finally:
            server.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(10)
            server.kill()

    @contextlib.contextmanager
    def mounted(self, url: str) -> Iterator[Path]:
        """Mounts the newest revision with a cache that stays between mounts, and unmounts it afterwards."""
        point, configuration = self.home / "mnt", self.home / "client.conf"
        point.mkdir(exist_ok=True)
        configuration.write_text(
            f"CVMFS_SERVER_URL={url}/cvmfs/{FQRN}\nCVMFS_HTTP_PROXY=DIRECT\n"
            f"CVMFS_PUBLIC_KEY={self.prefix}/etc/cvmfs/keys/{FQRN}.pub\nCVMFS_CACHE_BASE={self.home}/cache\n",
            "utf-8",
        )
        try:
            self.command("cvmfs2", "-o", f"config={configuration}", FQRN, point)
            yield point
        finally:
            unmount(point)

    def unmount_all(self) -> None:
        """Unmounts everything below the benchmark's directory."""
        lines = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
        for point in reversed([line.split(" ")[4] for line in lines]):
            if point.startswith(f"{self.home}/"):
                unmount(Path(point))


def unmount(point: Path) -> None:
    """Unmounts, lazily if it is busy."""
    if subprocess.run(["umount", point], check=False, capture_output=True).returncode:
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)


def drop_kernel_caches() -> None:
    """Writes dirty pages and empties page, dentry and inode caches. Needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3", "ascii")
