"""What a test run must not leave behind: mounts, processes and network namespaces.

Owns the look at the machine before and after, and the sweeping up. Called from pytest's main thread.
"""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import mounts, processes
from tests.support.waiting import DeadlineExceededError, wait_until

REPOSITORIES = Path("/cvmfs")  # where commands mount by default
NAMESPACES = Path("/run/netns")
GRACE_S = 5.0  # a client needs a moment to end after its mount went away
SWEEP_LIMIT_S = 10.0


def _namespaces() -> frozenset[str]:
    """Returns the names of our network namespaces: the lab and the tests name theirs `nearfs-*`.

    Those that tell the run they are of, and it is another one, are none of ours.
    """
    names = frozenset(path.name for path in NAMESPACES.glob("nearfs-*"))
    ours = f"nearfs-run-{os.environ[processes.MARK]}-"
    return frozenset(name for name in names if name.startswith(ours) or not name.startswith("nearfs-run-"))


def _identity(mount: mounts.Mount) -> tuple[int, Path]:
    """Returns what tells a mount from all others: the kernel gives the number of one that is gone to the next."""
    return mount.mount_id, mount.point


@dataclass
class Watch:
    """The machine as it was when the run began, and the directories in which this run may mount."""

    roots: list[Path]
    mounts_before: frozenset[tuple[int, Path]] = field(
        default_factory=lambda: frozenset(map(_identity, mounts.table()))
    )
    namespaces_before: frozenset[str] = field(default_factory=_namespaces)

    def mounts(self) -> list[mounts.Mount]:
        """Returns the mounts of this run, the newest first. Another run's, elsewhere, are none of ours."""
        found = mounts.beneath(REPOSITORIES, *self.roots)
        return [mount for mount in found if _identity(mount) not in self.mounts_before]

    def left(self) -> list[str]:
        """Returns a sentence for each thing that is left, after a moment of grace."""
        # What is still there at the deadline is what the sentences below name.
        with contextlib.suppress(DeadlineExceededError):
            wait_until(lambda: not self.mounts() and not processes.of_this_run(), GRACE_S, "everything ended")
        found = [f"mount {mount.point} ({mount.fstype}, {mount.source})" for mount in self.mounts()]
        found += [f"process {running.pid}: {running.command}" for running in processes.of_this_run()]
        found += [f"network namespace {name}" for name in sorted(_namespaces() - self.namespaces_before)]
        return found

    def sweep(self) -> None:
        """Removes mounts and processes that are left, so that one bad run does not spoil the next."""
        for mount in self.mounts():
            mounts.unmount_lazily(mount.point, SWEEP_LIMIT_S)
        processes.kill_all_of_this_run()
