# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""System calls timed one by one, with no interpreter in the loop.

Owns the timed loops and the histogram of their latencies. Decides nothing about what is worth measuring, prints nothing
and writes nothing. Every loop runs without the interpreter's lock; ten times a second it looks for a pending signal, so
that Ctrl-C works. A `Histogram` or `Measured` belongs to one thread at a time. The stub beside this file (probe.pyi)
says what each name offers.
"""

import array
import os

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset
from posix.stat cimport lstat as c_lstat
from posix.stat cimport stat as c_stat
from posix.stat cimport struct_stat
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec


cdef extern from "<dirent.h>" nogil:
    ctypedef struct DIR:
        pass
    struct dirent:
        pass
    DIR *opendir(const char *path)
    dirent *c_readdir "readdir"(DIR *directory)
    int closedir(DIR *directory)


cdef extern from "<fcntl.h>" nogil:
    int c_open "open"(const char *path, int flags, ...)
    int O_RDONLY
    int O_CLOEXEC
    int O_NOCTTY


cdef extern from "<unistd.h>" nogil:
    ssize_t c_read "read"(int fd, void *buffer, size_t length)
    ssize_t c_pread "pread"(int fd, void *buffer, size_t length, int64_t offset)
    int c_close "close"(int fd)


cdef extern from *:
    """
    #include <errno.h>
    static void errno_clear(void) { errno = 0; }
    """
    void errno_clear() noexcept nogil


cdef enum:
    SUB_BITS = 5  # 32 buckets for each power of two: a bucket is at most 1/32 = 3.1 % wide
    BUCKETS = 1888  # as many as 63-bit values need with SUB_BITS = 5
    ERRNOS = 256  # Linux stays below 134; a file system that answers a larger number is counted in the last
    CHUNK_BYTES = 131072  # what a whole-file read asks for at a time, as cat and cp do
    SIGNAL_CHECK_NS = 100000000
    BLOCK_MAX_BYTES = 1073741824


cdef inline int64_t now_ns() noexcept nogil:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return <int64_t>at.tv_sec * 1000000000 + at.tv_nsec


cdef inline int bucket_of(int64_t value) noexcept nogil:
    cdef int shift = 0
    cdef int64_t rest = value >> (SUB_BITS + 1)
    while rest:
        shift += 1
        rest >>= 1
    return (shift << SUB_BITS) + <int>(value >> shift)


cdef inline int64_t highest_of(int bucket) noexcept nogil:
    cdef int shift
    if bucket < (2 << SUB_BITS):
        return bucket
    shift = (bucket >> SUB_BITS) - 1
    # Unsigned: the highest bucket ends at the largest signed number, one step before it would wrap.
    return <int64_t>(((<uint64_t>(bucket - (shift << SUB_BITS)) + 1) << shift) - 1)


cdef class Histogram:
    cdef int64_t counts[BUCKETS]
    cdef readonly int64_t count
    cdef readonly int64_t total_ns
    cdef readonly int64_t min_ns
    cdef readonly int64_t max_ns

    def __cinit__(self):
        memset(self.counts, 0, sizeof(self.counts))

    cdef inline void put(self, int64_t value) noexcept nogil:
        if self.count == 0 or value < self.min_ns:
            self.min_ns = value
        if value > self.max_ns:
            self.max_ns = value
        self.count += 1
        self.total_ns += value
        self.counts[bucket_of(value)] += 1

    def add(self, int64_t latency_ns):
        if latency_ns < 0:
            raise ValueError(f"a latency of {latency_ns} ns cannot be")
        self.put(latency_ns)

    def merge(self, Histogram other not None):
        cdef int at
        if other.count == 0:
            return
        if self.count == 0 or other.min_ns < self.min_ns:
            self.min_ns = other.min_ns
        self.max_ns = max(self.max_ns, other.max_ns)
        self.count += other.count
        self.total_ns += other.total_ns
        for at in range(BUCKETS):
            self.counts[at] += other.counts[at]

    def percentile(self, double percent):
        cdef int64_t rank
        cdef int64_t seen = 0
        cdef int at
        if not 0 <= percent <= 100:
            raise ValueError(f"percentile {percent}: choose 0 to 100")
        if self.count == 0:
            return 0
        # The nearest rank, rounded up; the first for 0 %. The slack undoes the rounding of percent * count.
        rank = max(1, min(self.count, <int64_t>(percent * self.count / 100 + 0.999999999)))
        for at in range(BUCKETS):
            seen += self.counts[at]
            if seen >= rank:
                return max(self.min_ns, min(self.max_ns, highest_of(at)))
        return self.max_ns

    def buckets(self):
        return [(highest_of(at), self.counts[at]) for at in range(BUCKETS) if self.counts[at]]

    def summary(self):
        return {
            "count": self.count,
            "mean_ns": self.total_ns // self.count if self.count else 0,
            "min_ns": self.min_ns,
            "p50_ns": self.percentile(50),
            "p90_ns": self.percentile(90),
            "p99_ns": self.percentile(99),
            "max_ns": self.max_ns,
        }


cdef class Measured:
    cdef readonly Histogram histogram
    cdef readonly Histogram failed_histogram
    cdef readonly int64_t bytes_read
    cdef readonly int64_t entries
    cdef int64_t started_ns
    cdef int64_t ended_ns
    cdef int64_t checked_ns
    cdef int64_t errnos[ERRNOS]
    cdef int64_t *taken_ns
    cdef size_t taken
    cdef size_t room

    def __cinit__(self):
        self.histogram = Histogram()
        self.failed_histogram = Histogram()
        memset(self.errnos, 0, sizeof(self.errnos))

    def __dealloc__(self):
        free(self.taken_ns)

    cdef int reserve(self, size_t room) except -1:
        self.taken_ns = <int64_t *>malloc(max(1, room) * sizeof(int64_t))
        if self.taken_ns == NULL:
            raise MemoryError(f"no memory for {room} latencies")
        self.room = room
        return 0

    cdef int start(self) noexcept nogil:
        self.started_ns = self.checked_ns = now_ns()
        return 0

    cdef int ok(self, int64_t begun_ns, int64_t ended_ns) except -1 nogil:
        cdef int64_t *larger
        if self.taken == self.room:
            larger = <int64_t *>realloc(self.taken_ns, (self.room * 2 + 64) * sizeof(int64_t))
            if larger == NULL:
                with gil:
                    raise MemoryError(f"no memory for more than {self.room} latencies")
            self.taken_ns = larger
            self.room = self.room * 2 + 64
        self.taken_ns[self.taken] = ended_ns - begun_ns
        self.taken += 1
        self.histogram.put(ended_ns - begun_ns)
        return self.look_up(ended_ns)

    cdef int failed(self, int64_t begun_ns, int64_t ended_ns, int number) except -1 nogil:
        self.errnos[number if 0 <= number < ERRNOS else ERRNOS - 1] += 1
        self.failed_histogram.put(ended_ns - begun_ns)
        return self.look_up(ended_ns)

    cdef int look_up(self, int64_t ended_ns) except -1 nogil:
        self.ended_ns = ended_ns
        if ended_ns - self.checked_ns > SIGNAL_CHECK_NS:
            self.checked_ns = ended_ns
            with gil:
                PyErr_CheckSignals()
        return 0

    @property
    def total_s(self):
        return (self.ended_ns - self.started_ns) / 1e9

    @property
    def latencies_ns(self):
        latencies = array.array("q", bytes(self.taken * sizeof(int64_t)))
        cdef int64_t[::1] view
        if self.taken:
            view = latencies
            memcpy(&view[0], self.taken_ns, self.taken * sizeof(int64_t))
        return latencies

    @property
    def failures(self):
        return {number: self.errnos[number] for number in range(ERRNOS) if self.errnos[number]}


cdef class _Paths:
    """Paths as C strings; `kept` owns their bytes."""

    cdef list kept
    cdef char **texts
    cdef Py_ssize_t count

    def __cinit__(self, paths):
        cdef Py_ssize_t at
        if isinstance(paths, (str, bytes, os.PathLike)):
            raise TypeError("a list of paths is wanted, not one path")
        self.kept = [os.fsencode(path) for path in paths]
        self.count = len(self.kept)
        self.texts = <char **>malloc(max(1, self.count) * sizeof(char *))
        if self.texts == NULL:
            raise MemoryError(f"no memory for {self.count} paths")
        for at in range(self.count):
            if b"\0" in self.kept[at]:
                raise ValueError(f"path {self.kept[at]!r} holds a NUL byte")
            self.texts[at] = PyBytes_AS_STRING(self.kept[at])

    def __dealloc__(self):
        free(self.texts)


cdef class _Buffer:
    """Memory that reads are aimed at; touched once, so that no page fault is timed."""

    cdef char *start
    cdef size_t size

    def __cinit__(self, int64_t size):
        if not 1 <= size <= BLOCK_MAX_BYTES:
            raise ValueError(f"block of {size} bytes: choose 1 to {BLOCK_MAX_BYTES}")
        self.start = <char *>malloc(size)
        if self.start == NULL:
            raise MemoryError(f"no memory for a block of {size} bytes")
        memset(self.start, 1, size)
        self.size = size

    def __dealloc__(self):
        free(self.start)


cdef class _OpenFile:
    """A file held open for the reads that are timed, with its size in bytes."""

    cdef int fd
    cdef int64_t size

    def __cinit__(self, path):
        self.fd = -1  # what __dealloc__ finds when the open fails
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        self.size = os.fstat(self.fd).st_size

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)


def clock_cost_ns():
    cdef int64_t least = 1 << 62
    cdef int64_t begun
    cdef int at
    with nogil:
        for at in range(1000):
            begun = now_ns()
            least = min(least, now_ns() - begun)
    return least


def stat(paths, *, bint follow=False):
    cdef _Paths wanted = _Paths(paths)
    cdef Measured measured = Measured()
    cdef struct_stat answer
    cdef int64_t begun, ended
    cdef int code
    cdef Py_ssize_t at
    measured.reserve(wanted.count)
    with nogil:
        measured.start()
        for at in range(wanted.count):
            begun = now_ns()
            code = c_stat(wanted.texts[at], &answer) if follow else c_lstat(wanted.texts[at], &answer)
            ended = now_ns()
            if code == 0:
                measured.ok(begun, ended)
            else:
                measured.failed(begun, ended, errno)
    return measured


cdef int64_t drain(int fd, _Buffer buffer, int64_t limit) noexcept nogil:
    """Reads until `limit` bytes (all for -1) or the end; returns how many, or minus the error number."""
    cdef int64_t got = 0
    cdef size_t wanted
    cdef ssize_t more
    while limit < 0 or got < limit:
        wanted = buffer.size
        if limit >= 0 and limit - got < <int64_t>wanted:
            wanted = limit - got
        more = c_read(fd, buffer.start, wanted)
        if more < 0:
            if errno == EINTR:
                continue
            return -errno
        if more == 0:
            break
        got += more
    return got


cdef Measured read_files(paths, int64_t limit, bint times_close):
    cdef _Paths wanted = _Paths(paths)
    cdef Measured measured = Measured()
    cdef _Buffer buffer = _Buffer(CHUNK_BYTES)
    cdef int64_t begun, ended, got
    cdef int fd, number
    cdef Py_ssize_t at
    measured.reserve(wanted.count)
    with nogil:
        measured.start()
        for at in range(wanted.count):
            begun = now_ns()
            fd = c_open(wanted.texts[at], O_RDONLY | O_CLOEXEC | O_NOCTTY)
            number = errno if fd < 0 else 0
            if fd >= 0:
                got = drain(fd, buffer, limit)
                if times_close:
                    c_close(fd)
                    ended = now_ns()
                else:
                    ended = now_ns()
                    c_close(fd)
                if got < 0:
                    number = <int>-got
                else:
                    measured.bytes_read += got
            else:
                ended = now_ns()
            if number == 0:
                measured.ok(begun, ended)
            else:
                measured.failed(begun, ended, number)
    return measured


def open_read_close(paths, *, int64_t first_bytes=-1):
    if first_bytes < -1:
        raise ValueError(f"first_bytes {first_bytes}: choose a number of bytes, or -1 for all")
    return read_files(paths, first_bytes, True)


def first_byte(paths):
    return read_files(paths, 1, False)


def readdir(paths):
    cdef _Paths wanted = _Paths(paths)
    cdef Measured measured = Measured()
    cdef int64_t begun, ended, listed
    cdef DIR *directory
    cdef int number
    cdef Py_ssize_t at
    measured.reserve(wanted.count)
    with nogil:
        measured.start()
        for at in range(wanted.count):
            listed = 0
            begun = now_ns()
            directory = opendir(wanted.texts[at])
            number = errno if directory == NULL else 0
            if directory != NULL:
                errno_clear()
                while c_readdir(directory) != NULL:
                    listed += 1
                number = errno
                closedir(directory)
            ended = now_ns()
            if number == 0:
                measured.entries += listed
                measured.ok(begun, ended)
            else:
                measured.failed(begun, ended, number)
    return measured


def read_sequential(path, *, int64_t block_bytes):
    cdef _Buffer buffer = _Buffer(block_bytes)
    cdef Measured measured = Measured()
    cdef _OpenFile opened = _OpenFile(path)
    cdef int64_t begun, ended
    cdef ssize_t got = 1
    measured.reserve(64)
    with nogil:
        measured.start()
        while got != 0:
            begun = now_ns()
            got = c_read(opened.fd, buffer.start, buffer.size)
            ended = now_ns()
            if got > 0:
                measured.bytes_read += got
                measured.ok(begun, ended)
            elif got < 0:
                # The file's position is unknown after a failed read: only an interrupted one goes on.
                if errno == EINTR:
                    continue
                measured.failed(begun, ended, errno)
                break
    return measured


cdef inline uint64_t next_random(uint64_t *state) noexcept nogil:
    """xorshift64*: good enough to spread offsets, the same on every machine; the state is never 0."""
    state[0] ^= state[0] >> 12
    state[0] ^= state[0] << 25
    state[0] ^= state[0] >> 27
    return state[0] * <uint64_t>2685821657736338717


cdef uint64_t first_state(uint64_t seed) noexcept:
    # Neighbouring seeds start far apart, and none starts at 0, where the generator would stay.
    cdef uint64_t state = (seed + 1) * <uint64_t>11400714819323198485
    return state if state else 1


cdef uint64_t block_count(int64_t size, int64_t block_bytes) except 0:
    if size <= 0:
        raise ValueError("an empty file, or one without a size, has no block to read")
    if block_bytes <= 0:
        raise ValueError(f"block of {block_bytes} bytes: choose 1 or more")
    return (size - 1) // block_bytes + 1


def random_offsets(int64_t size, *, int64_t block_bytes, int64_t count, uint64_t seed):
    cdef uint64_t state = first_state(seed)
    cdef uint64_t blocks = block_count(size, block_bytes)
    return [(next_random(&state) >> 11) % blocks * block_bytes for _ in range(count)]


def read_random(path, *, int64_t block_bytes, int64_t count, uint64_t seed):
    cdef _Buffer buffer = _Buffer(block_bytes)
    cdef Measured measured = Measured()
    cdef _OpenFile opened = _OpenFile(path)
    cdef uint64_t state = first_state(seed)
    cdef uint64_t blocks = block_count(opened.size, block_bytes)
    cdef int64_t begun, ended, offset, at
    cdef ssize_t got
    if count < 0:
        raise ValueError(f"{count} reads cannot be")
    measured.reserve(64)
    with nogil:
        measured.start()
        for at in range(count):
            offset = <int64_t>((next_random(&state) >> 11) % blocks) * block_bytes
            begun = now_ns()
            got = c_pread(opened.fd, buffer.start, buffer.size, offset)
            ended = now_ns()
            if got >= 0:
                measured.bytes_read += got
                measured.ok(begun, ended)
            else:
                measured.failed(begun, ended, errno)
    return measured
