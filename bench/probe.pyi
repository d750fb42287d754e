"""System calls timed one by one, with no interpreter in the loop. Built by bench.build_probe.

Latencies are nanoseconds of CLOCK_MONOTONIC around the calls named, the clock's own cost (`clock_cost_ns`) included.
Calls that fail are counted and timed apart from those that succeed. Paths are used as they are; one that is a FIFO
waits for its writer. No call holds the interpreter's lock while it measures; Ctrl-C ends a measurement within a tenth
of a second after the call under way.
"""

import os
from array import array
from collections.abc import Iterable
from typing import TypeAlias, TypedDict, final

_Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

class Summary(TypedDict):
    """A histogram in seven numbers; all 0 when nothing was counted."""

    count: int
    mean_ns: int
    min_ns: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    max_ns: int

@final
class Histogram:
    """Latencies in buckets that grow with their value: exact below 64 ns, at most 1/32 wide above. 15 KB, always."""

    def __init__(self) -> None: ...
    def add(self, latency_ns: int) -> None:
        """Counts one latency. Raises ValueError for a negative one."""

    def merge(self, other: Histogram) -> None:
        """Counts all that `other` counted."""

    def percentile(self, percent: float) -> int:
        """Returns the nearest-rank percentile: never below the true one, at most 1/32 above; 0 of nothing."""

    def buckets(self) -> list[tuple[int, int]]:
        """Returns (highest value of the bucket in ns, count) of each bucket that is not empty, ascending."""

    def summary(self) -> Summary: ...
    @property
    def count(self) -> int: ...
    @property
    def total_ns(self) -> int: ...
    @property
    def min_ns(self) -> int: ...
    @property
    def max_ns(self) -> int: ...

@final
class Measured:
    """What a measurement found."""

    def __init__(self) -> None: ...
    @property
    def histogram(self) -> Histogram:
        """The calls that succeeded."""

    @property
    def failed_histogram(self) -> Histogram:
        """The calls that failed."""

    @property
    def latencies_ns(self) -> array[int]:
        """Every latency of the calls that succeeded, in order; a copy."""

    @property
    def failures(self) -> dict[int, int]:
        """How many calls failed, by error number (numbers above 254 count as 255)."""

    @property
    def total_s(self) -> float:
        """Seconds from the first call's begin to the last one's end, the loop's own work included."""

    @property
    def bytes_read(self) -> int: ...
    @property
    def entries(self) -> int:
        """Names that were listed, `.` and `..` included."""

def clock_cost_ns() -> int:
    """Returns the least time between two readings of the clock: what every latency contains."""

def stat(paths: Iterable[_Path], *, follow: bool = False) -> Measured:
    """Times one lstat(2) a path; with `follow`, one that follows a symbolic link."""

def open_read_close(paths: Iterable[_Path], *, first_bytes: int = -1) -> Measured:
    """Times open(2), read(2) of at most `first_bytes` (all for -1) in steps of 128 KiB, and close(2) of each path."""

def first_byte(paths: Iterable[_Path]) -> Measured:
    """Times open(2) and the read(2) of one byte of each path; the close(2) is not timed."""

def readdir(paths: Iterable[_Path]) -> Measured:
    """Times opendir, readdir until the end, and closedir of each path."""

def read_sequential(path: _Path, *, block_bytes: int) -> Measured:
    """Times each read(2) of `block_bytes` from the begin of a file until its end, which is one read more.

    The last, empty read is not counted. Raises OSError when the file cannot be opened.
    """

def read_random(path: _Path, *, block_bytes: int, count: int, seed: int) -> Measured:
    """Times `count` pread(2) of `block_bytes`, at the offsets that `random_offsets` returns for the file's size.

    Raises OSError when the file cannot be opened, ValueError when it is empty.
    """

def random_offsets(size: int, *, block_bytes: int, count: int, seed: int) -> list[int]:
    """Returns offsets of whole blocks in a file of `size` bytes: the same for the same arguments, anywhere."""
