"""A client of a CernVM-FS repository at the near end of a line, by its command: `cvmfs2 -o config=FILE FQRN POINT`.

Owns its configuration, cache and mounts. The command is ours or the reference system's: both take the same words and
the same file. Counts come from the mount's own attributes, read before each unmount. One thread a client.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from bench.contenders.on_host import HostClient
from bench.harness import processes
from bench.harness.commands import Counts
from bench.harness.contender import Tree
from bench.harness.discards import discard
from bench.lab.line import Line

_MOUNT_LIMIT_S = 300.0
_GONE_LIMIT_S = 60.0
# What waits for its turn is bounded, and so is this: over a slow line it may be a megabyte.
_LANDING_LIMIT_S, _LANDING_STEP_S = 5.0, 0.02
#: The directory in a cache that holds what was learned of programs.
_LEARNED = "traces"


class CvmfsClient(HostClient):
    """One client process with a cache directory of its own."""

    def __init__(
        self,
        home: Path,
        line: Line,
        tree: Tree,
        url: str,
        *,
        program: str,
        proxy: str = "DIRECT",
        options: str = "",
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(home)
        self._line = line
        self._tree = tree
        self._program = program
        self._options = options
        self._point = home / "mnt"
        self._cache = home / "cache"
        self._earlier = Counts(0, 0, 0)
        self._point.mkdir()
        self._configuration = home / "client.conf"
        self._configuration.write_text(
            f"CVMFS_SERVER_URL={url}/cvmfs/{tree.fqrn}\nCVMFS_HTTP_PROXY={proxy}\n"
            f"CVMFS_PUBLIC_KEY={tree.public_key}\nCVMFS_CACHE_BASE={self._cache}\n"
            "CVMFS_SHARED_CACHE=no\nCVMFS_QUOTA_LIMIT=-1\nCVMFS_CLAIM_OWNERSHIP=no\n"
            + "".join(f"{name}={value}\n" for name, value in settings.items()),
            "utf-8",
        )

    @property
    def tree(self) -> Path:
        """Returns the mount point."""
        return self._point

    def in_place(self, argv: list[str]) -> list[str]:
        """Returns the words that run a command at the near end."""
        return self._line.near_command(*argv)

    def mount(self, *, empty_cache: bool) -> float:
        """Mounts with an empty cache or the one that is there; the kernel's caches are dropped before."""
        self.unmount()
        if empty_cache:
            discard(self._cache)
        self._cache.mkdir(exist_ok=True)
        processes.drop_kernel_caches()
        words = ["-o", f"config={self._configuration}{self._options}", self._tree.fqrn, str(self._point)]
        started = time.monotonic()
        done = subprocess.run(
            self._line.near_command(self._program, *words),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_MOUNT_LIMIT_S,
            check=False,
        )
        took_s = time.monotonic() - started
        if done.returncode:
            raise processes.CommandFailed(f"{self._program}: {done.returncode}: {done.stdout}{done.stderr}")
        return took_s

    def unmount(self) -> None:
        """Unmounts and waits for the client's process to end, so that its cache is free."""
        if not os.path.ismount(self._point):
            return
        self._earlier = self.counts()
        process = int(os.getxattr(self._point, "user.pid"))
        processes.unmount(self._point)
        deadline = time.monotonic() + _GONE_LIMIT_S
        while Path(f"/proc/{process}/exe").exists():
            if time.monotonic() > deadline:
                raise processes.CommandFailed(f"the client of {self._point} does not end")
            time.sleep(0.01)

    def forget_content(self) -> None:
        """Unmounts and removes all that the cache has beside what was learned."""
        self.unmount()
        past = self._cache.with_name("past")
        self._cache.rename(past)
        for learned in past.rglob(_LEARNED):
            shutil.copytree(learned, self._cache / learned.relative_to(past))
        discard(past)

    def counts(self) -> Counts:
        """Returns counts over all mounts of this client."""
        if not os.path.ismount(self._point):
            return self._earlier
        return _sum(self._earlier, _counts_of(self._point))

    def ahead(self) -> Mapping[str, int]:
        """Returns the present mount's counters once nothing that was fetched ahead is under way."""
        deadline = time.monotonic() + _LANDING_LIMIT_S
        while (counters := _counters_of(self._point)).get("prefetch_pending_bytes") and time.monotonic() < deadline:
            time.sleep(_LANDING_STEP_S)
        return counters


def _counters_of(point: Path) -> Mapping[str, int]:
    """Returns what our client counts; nothing of the reference system's."""
    try:
        lines = os.getxattr(point, "user.nearfs_counters").decode("ascii").splitlines()
    except OSError:
        return {}
    return {name: int(value) for name, value in (line.split(",") for line in lines)}


def _counts_of(point: Path) -> Counts:
    counters = _counters_of(point)
    if not counters:  # the reference system's client: it counts objects and kilobytes, and no upcalls
        objects, kilobytes = (int(os.getxattr(point, f"user.{name}")) for name in ("ndownload", "rx"))
        return Counts(objects, kilobytes * 1024, None)
    upcalls = [value for name, value in counters.items() if name.startswith("upcall_") and name != "upcall_forget"]
    return Counts(counters["requests"], counters["request_bytes"], sum(upcalls) if upcalls else None)


def _sum(first: Counts, second: Counts) -> Counts:
    def plus(a: int | None, b: int | None) -> int | None:
        return None if a is None or b is None else a + b

    return Counts(
        plus(first.requests, second.requests),
        plus(first.fetched_bytes, second.fetched_bytes),
        plus(first.upcalls, second.upcalls),
    )
