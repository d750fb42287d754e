"""What is run against a mounted tree, and what a run took.

Owns the two values that contenders, scenarios and results share. Runs nothing. Immutable, so free of threads' concerns.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

TREE = "{tree}"
SCRATCH = "{scratch}"


@dataclass(frozen=True)
class Command:
    """A program and its whole environment.

    In every word, value and line of input `{tree}` stands for the mount point, `{scratch}` for a writable directory of
    this run, empty at first; which paths these are is known to the contender alone: they may lie on another machine.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: str = ""
    limit_s: float = 1200.0

    def at(self, tree: str, scratch: str) -> "Command":
        """Returns the command with both places filled in."""

        def fill(text: str) -> str:
            return text.replace(TREE, tree).replace(SCRATCH, scratch)

        environment = {key: fill(value) for key, value in self.environment.items()}
        return Command(tuple(map(fill, self.argv)), environment, fill(self.stdin), self.limit_s)


@dataclass(frozen=True)
class Run:
    """One run: wall time by the monotonic clock, processor time by the system's accounting of the ended children."""

    wall_s: float
    user_s: float
    system_s: float
    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Counts:
    """What a client asked so far. Each None where the contender cannot tell.

    `requests` are HTTP requests or NFS calls as the client's side made them; `fetched_bytes` the bodies or replies that
    came back; `upcalls` what the kernel asked a FUSE process.
    """

    requests: int | None = None
    fetched_bytes: int | None = None
    upcalls: int | None = None

    def since(self, earlier: "Counts") -> "Counts":
        """Returns the difference to an earlier reading, None where either is."""

        def minus(now: int | None, then: int | None) -> int | None:
            return None if now is None or then is None else now - then

        return Counts(
            minus(self.requests, earlier.requests),
            minus(self.fetched_bytes, earlier.fetched_bytes),
            minus(self.upcalls, earlier.upcalls),
        )
