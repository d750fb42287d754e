"""What every loop offers: the face of a mount that is served.

Owns the protocol. Does not own: the loops (the engine's `Mount`, `portable`). Threading: callable from any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nearfs._native import Following, Route, Tracing


class ServedMount(Protocol):
    """A mount that a loop serves: the native one, or the portable one. Life and messages are the same."""

    def wait(self, timeout_s: float) -> bool:
        """Returns True when the mount has ended, False when the time is over."""

    def unmount(self) -> None:
        """Unmounts, lazily if it is busy; does nothing when it already ended."""

    def counters(self) -> dict[str, int]:
        """Returns what was counted: requests, bytes, opens, the cache's use, upcalls by operation."""

    @property
    def revision(self) -> int:
        """Returns the revision that is shown."""

    @property
    def updates(self) -> Following:
        """Returns how it follows the repository."""

    @property
    def tracing(self) -> Tracing:
        """Returns what records the files that programs open."""

    @property
    def route(self) -> Route:
        """Returns its ways to the hosts."""

    @property
    def external_route(self) -> Route:
        """Returns its ways to external data."""
