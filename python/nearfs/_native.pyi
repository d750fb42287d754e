"""The extension: the engine's face in Python.

Paths are those of the file system; hashes are text in the format's form (`<40 hex>[-algorithm]`); times are
Unix seconds; sizes are bytes. Every failure of the engine is a `nearfs.errors.NearfsError` of its kind. Functions that
may block let other Python threads run. Nothing here calls back into Python.
"""

import os
from typing import Final, Self, TypeAlias, Unpack, final

from nearfs.records import (
    Committed,
    Finding,
    Head,
    KeptRevision,
    MountRequest,
    Network,
    PublishRequest,
    Pulled,
    SourceAnswer,
    Swept,
    Tag,
    Target,
)

_Path: TypeAlias = str | os.PathLike[str]

__all__ = [
    "__VERSION__",
    "Attr",
    "Catalog",
    "DiskCache",
    "Engine",
    "Following",
    "Mount",
    "Progress",
    "ReplicaSource",
    "RevisionDiff",
    "Route",
    "SweepPlan",
    "Tracing",
    "UnservedMount",
    "catalog_facts",
    "check",
    "check_history",
    "check_references",
    "clear_stale_mount",
    "copy_directory",
    "create_repository",
    "create_storage",
    "cut_marks",
    "deflate",
    "edit_tags",
    "encode_bundle",
    "error_kinds",
    "hash_content",
    "inflate",
    "is_debug_build",
    "is_mounted",
    "list_branches",
    "list_bundles",
    "list_catalogs",
    "list_references",
    "list_tags",
    "mount",
    "names_of_file",
    "open_engine",
    "parse_bundle",
    "parse_trace",
    "plan_into",
    "plan_publish",
    "plan_sweep",
    "publish",
    "publish_into",
    "put_object",
    "read_object",
    "rebuild_references",
    "record_references",
    "rewrite_catalogs",
    "roll_back",
    "start_log",
    "sync_storage",
    "update_virtual_directory",
    "write_named",
]

__VERSION__: Final[str]
"""Version of the engine; the package's own."""

@final
class Catalog:
    """One catalog file, decoded into memory; look-ups run no SQL. Any thread; nested catalogs are not followed."""

    def __new__(cls, file: _Path) -> Catalog:
        """Decodes an uncompressed catalog file. Raises `Corrupt` for one that breaks the format."""

    def __len__(self) -> int:
        """Returns the number of rows, the catalog's own root included."""

    def find(self, path: bytes) -> tuple[int, int, int, str | None] | None:
        """Returns (mode, size, mtime, hash of the whole-file object) of `b""` or `b"/a/b"`; None without a row."""

    def entries(self, directory: bytes) -> list[tuple[bytes, int, int, int, str | None]]:
        """Returns (name, mode, size, mtime, hash) of each entry of a directory, sorted by name.

        Raises `NotFound` for a path without a row, `InvalidInput` for what is no directory.
        """

@final
class DiskCache:
    """The cache directory of a client. Fetches nothing; any thread, and any number of processes."""

    def __new__(cls, cache_dir: _Path, *, is_shared: bool) -> DiskCache:
        """Opens the cache in `cache_dir`, creating what is missing of its layout."""

    def read(self, hash_text: str, *, size: int) -> bytes | None:
        """Returns the content of an object of `size` bytes, or None where the cache does not have it.

        What lies there with another size is damaged: it is moved to quarantine and counts as missing.
        """

@final
class Progress:
    """Counters of a running publish, polled from another thread; and the way to stop it."""

    def __new__(cls) -> Progress: ...
    def counts(self) -> dict[str, int]:
        """Returns files_total, files_done, bytes_total, bytes_done."""

    def cancel(self) -> None:
        """Makes the operation end with a `Cancelled` error at the next file."""

@final
class SweepPlan:
    """What a garbage collection is going to do."""

    @property
    def kept(self) -> list[KeptRevision]:
        """The newest revision and those before it that stay, newest first."""

    @property
    def condemned(self) -> int:
        """Number of root catalogs to be collected."""

    @property
    def catalogs_kept(self) -> int:
        """Number of catalogs of all kept revisions."""

    @property
    def oldest_kept_s(self) -> int:
        """Auxiliary objects that were added before are outdated, Unix seconds."""

    @property
    def referenced(self) -> dict[str, int]:
        """Number of references in the log, by suffix letter."""

    @property
    def outdated(self) -> dict[str, int]:
        """Number of auxiliary objects to be deleted, by suffix letter."""

    @property
    def warnings(self) -> list[str]:
        """What is not as it should be."""

    def execute(self, *, is_dry_run: bool, measure: bool, listing: _Path | None, progress: Progress) -> Swept:
        """Deletes what can go, once. Deleted objects are appended to the file `listing`, a line each."""

@final
class ReplicaSource:
    """A repository to be replicated, and the way to it: `in_flight` objects are asked for at a time at most."""

    def __new__(cls, url: str, *, fqrn: str, network: Network, in_flight: int) -> ReplicaSource: ...
    def fetch(self, name: str, limit: int) -> bytes:
        """Returns a small file of the repository's root, unverified."""

    def head(self, storage: _Path, *, public_keys: list[bytes], now_s: int) -> SourceAnswer:
        """Asks for the newest revision and verifies it: one round trip behind that of the connection.

        Raises `NotFound` where replicas are not permitted, `Untrusted` where a signature, a name or a date is wrong.
        """

    def pull(
        self,
        storage: _Path,
        *,
        is_initial: bool,
        threshold_s: int | None,
        verifies: bool,
        known: list[str],
        paths: bytes,
        rewalks: bool,
        progress: Progress,
    ) -> Pulled:
        """Brings over what the head reaches; `known` are the root catalogs that the reference log has.

        `paths` are the rules of a partial replica, empty for everything; with `rewalks` they were others last time.

        Raises `NotFound` for objects that the source does not have, `Corrupt` for damaged ones. What came stays.
        """

@final
class Tracing:
    """What programs open in one mount, recorded on request. Any thread; never waits."""

    def begin(self, group: int | None = None) -> int:
        """Records what a process group opens, with the session that it leads, or what anybody does; returns a token."""

    def end(self, token: int) -> tuple[list[tuple[bytes, list[int] | None]], bool] | None:
        """Ends a recording; returns (path, offsets of chunks that were read) of its files, and whether there were more.

        Offsets are None for files that are not stored in chunks. None where there is no recording of that token.
        """

@final
class Mount:
    """A mounted repository. Worker threads serve it until it is unmounted by anyone."""

    def wait(self, timeout_s: float) -> bool:
        """Returns True when the mount has ended, False when the time is over."""

    def unmount(self) -> None:
        """Unmounts, lazily if it is busy; does nothing when it already ended."""

    def counters(self) -> dict[str, int]:
        """Returns what was counted: requests, bytes, opens, the cache's use, upcalls by operation."""

    def cache_size(self) -> tuple[int, int] | None:
        """Returns the bytes of all cached objects and of the pinned ones; None without a limit."""

    def cache_cleanup(self, goal_bytes: int) -> bool:
        """Removes what was not used for longest; returns whether all objects take at most `goal_bytes` now.

        Raises `Busy` if another process cleans up for longer than 10 s, like the other calls on the cache.
        """

    def cache_list(self) -> list[tuple[str, int, str, bool, bool]]:
        """Returns (hash, bytes, description, is catalog, is pinned) of all objects, the one used last first."""

    def cache_evict(self, hash: str) -> bool:  # noqa: A002 - the format's word
        """Removes one object unless it is pinned; returns whether it was there and is gone. Readers keep it."""

    def evict(self, path: bytes) -> bool | None:
        """Removes a file's objects; returns whether they are gone, None where the path is no regular file."""

    def pin(self, path: bytes) -> bool | None:
        """Fetches a file and keeps it cached; returns whether it is kept, None where the path is no regular file."""

    def cache_cleanups(self, period_s: int) -> int | None:
        """Returns how many clean-ups all mounts made within the last seconds, a week at most; None without a limit."""

    def set_cache_limit(self, limit_bytes: int) -> bool:
        """Changes the limit of this mount; returns False where there is none to change."""

    @property
    def root_hash(self) -> str: ...
    @property
    def revision(self) -> int: ...
    @property
    def tracing(self) -> Tracing: ...
    @property
    def updates(self) -> Following: ...
    @property
    def route(self) -> Route: ...
    @property
    def external_route(self) -> Route:
        """Hosts and proxies of external data."""

@final
class Following:
    """How a mount follows its repository."""

    def remount(self) -> bool:
        """Looks for a new revision and switches to it; returns whether there was one. Raises `NearfsError`."""
    @property
    def is_offline(self) -> bool:
        """True where the last look for a new revision failed."""
    @property
    def is_fixed(self) -> bool:
        """True where the revision was chosen by hash, tag or date."""
    @property
    def generation(self) -> int:
        """How many revisions were shown before this one."""
    @property
    def next_inode(self) -> int:
        """The number that the next new entry gets."""
    @property
    def max_ttl_s(self) -> int | None:
        """Seconds that a revision is believed at most; None for what the repository says."""
    def set_max_ttl(self, max_ttl_s: int | None) -> None:
        """Changes that limit, and looks sooner where it is over already."""
    def catalogs(self) -> list[tuple[int, bytes]]:
        """Returns (depth below the root catalog, path) of every catalog that was entered, parents first."""
    def reset_error_counters(self) -> None:
        """Forgets failed operations that were counted."""

    def release_nested(self) -> None:
        """Lets go of all decoded nested catalogs."""

@final
class Route:
    """Hosts, proxies and time-outs of a mount, in use. Any thread; nothing waits for the network but `sort_hosts` and
    `probe_hosts`, for one time-out at most.

    Lists are as in CVMFS_SERVER_URL and CVMFS_HTTP_PROXY; what is none raises `InvalidInput`. Times in seconds.
    """

    def hosts(self) -> tuple[list[str], int]:
        """Returns the hosts in order of preference, and the number of the active one."""

    def host_states(self) -> list[str]:
        """Returns what is known of each host: `unprobed`, `host down`, `geographically ordered`, `N ms`."""

    def probe_hosts(self) -> None:
        """Asks all hosts and puts them in the order in which they answered."""

    def switch_host(self) -> None:
        """Uses the next host."""

    def set_hosts(self, hosts: str) -> None: ...
    def sort_hosts(self, uuid: str, place: str | None) -> None:
        """Sorts the hosts by distance, as they see it; raises and leaves their order where they do not tell it."""

    def proxies(self) -> tuple[list[list[str]], int, str, int | None]:
        """Returns the groups, the number of the one in use, the proxy in use, and the number of the first fallback."""

    def rebalance_proxies(self) -> None:
        """Chooses anew within the group in use."""

    def switch_proxy_group(self) -> None:
        """Uses the next group."""

    def set_proxies(self, proxies: str) -> None: ...
    def set_fallback_proxies(self, proxies: str) -> None: ...
    def timeouts(self) -> tuple[int, int]:
        """Returns the time-outs by a proxy and without one."""

    def set_timeouts(self, by_proxy_s: int, direct_s: int) -> None: ...
    def nameserver(self) -> str | None:
        """Returns the address of the name server that was named; None for the system's."""

    def set_nameserver(self, address: str) -> None: ...

@final
class Attr:
    """What `stat` shows of an entry. Times in Unix seconds and nanoseconds; access and change time are the same."""

    @property
    def ino(self) -> int: ...
    @property
    def mode(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def nlink(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def rdev(self) -> int: ...
    @property
    def mtime_s(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...

@final
class Engine:
    """A repository's revision as plain operations, for a loop that is written in Python. Any thread may call them.

    An operation that fails raises `OSError` with the number that the native loop answers. Those that end in `_nearby`
    never wait for the network: they return None where it would be needed, and the plain one, which may wait, belongs
    into a worker thread. Inode 1 is the root.
    """

    def lookup(self, parent: int, name: bytes) -> Attr:
        """Returns the attributes of an entry of a directory; `.` and `..` are understood."""

    def lookup_nearby(self, parent: int, name: bytes) -> Attr | None: ...
    def getattr(self, ino: int) -> Attr: ...
    def readlink(self, ino: int) -> bytes:
        """Returns a symlink's target, expanded."""

    def readdir(self, directory: int, start: int, limit: int) -> list[tuple[bytes, Attr, int]]:
        """Returns up to `limit` entries behind a position, each with the position behind it; none at the end.

        Begins at 0, with `.` and `..`. Is counted by the caller: a request may need several pages.
        """

    def readdir_nearby(self, directory: int, start: int, limit: int) -> list[tuple[bytes, Attr, int]] | None: ...
    def open(self, ino: int, flags: int, caller: int = 0) -> tuple[int, bool, bool]:
        """Opens a file; returns handle, whether cached pages stay good, and whether to bypass the page cache.

        `caller` is the thread that asks for it; a wait ends when that is killed.
        """

    def open_nearby(self, ino: int, flags: int, caller: int = 0) -> tuple[int, bool, bool] | None: ...
    def read(self, fh: int, offset: int, size: int) -> bytes:
        """Returns up to `size` bytes; fewer only at the end of the file."""

    def read_nearby(self, fh: int, offset: int, size: int) -> bytes | None: ...
    def release(self, fh: int) -> None:
        """Closes a handle; an unknown one is ignored."""

    def getxattr(self, ino: int, name: bytes, gid: int) -> bytes: ...
    def listxattr(self, ino: int) -> list[bytes]: ...
    def statfs(self) -> tuple[int, int, int, int, int]:
        """Returns block size in bytes, blocks, free blocks, files, files in catalogs that are not loaded."""

    def forget(self, inodes: int) -> None:
        """Counts inodes that the kernel has dropped; numbers are computed, so there is nothing to free."""

    def count(self, operation: str, times: int = 1) -> None:
        """Counts requests that the loop answers without asking the engine, by the names of `counters`."""

    def timeouts_s(self) -> tuple[float, float, float]:
        """Returns how long the kernel may keep names, attributes, and that a name does not exist."""

    def generation(self) -> int:
        """Counts the revisions that were shown before: what was asked for before a switch must not be kept after it."""

    def counters(self) -> dict[str, int]:
        """Returns what was counted, under the names of `Mount.counters`."""

    @property
    def root_hash(self) -> str: ...
    @property
    def revision(self) -> int: ...
    @property
    def tracing(self) -> Tracing: ...
    @property
    def updates(self) -> Following: ...
    @property
    def route(self) -> Route: ...
    @property
    def external_route(self) -> Route:
        """Hosts and proxies of external data."""

    def mount(self) -> tuple[UnservedMount, int]:
        """Mounts; returns the mount and the device's file descriptor, which from then on belongs to the caller.

        Raises as `mount` does. The kernel's first request waits in the descriptor.
        """

    def close(self) -> None:
        """Ends the connections once what is under way has ended. Later operations raise `InvalidInput`."""

@final
class UnservedMount:
    """A mount whose requests a loop in Python answers."""

    def set_read_ahead(self) -> None:
        """Raises the kernel's read-ahead where we may; has an effect once the loop has answered a request."""

    def unmount(self) -> None:
        """Unmounts, lazily if it is busy; does nothing when it already ended."""

    def give_up(self) -> None:
        """Ends a mount whose loop has failed: whoever waits inside gets an error."""

def mount(**request: Unpack[MountRequest]) -> Mount:
    """Verifies a snapshot, loads its root catalog and mounts it.

    The process must not fork afterwards. Raises `Untrusted`, `Unreachable`, `NotFound` (no such tag), `Corrupt`,
    `Busy` (mount point or cache in use), `PermissionDenied`.
    """

def open_engine(**request: Unpack[MountRequest]) -> Engine:
    """Verifies a snapshot and loads its root catalog. Mounts nothing; raises as `mount` does."""

def is_mounted(mountpoint: _Path) -> bool:
    """Tells whether the mount table has a file system on exactly this path."""

def clear_stale_mount(mountpoint: _Path, fsname: str = "cvmfs2") -> bool:
    """Unmounts what a crashed client left behind; returns whether there was such a thing."""

def start_log(level: str | None = None, file: _Path | None = None, system: tuple[int, int, str] | None = None) -> None:
    """Begins the engine's log; the first call of a process counts.

    `level` is what goes to `file`, or to standard error; None for nothing. `system` is the system's log: facility,
    severity of notices, prefix. The newest lines are kept in memory in any case.
    """

def create_storage(storage: _Path) -> None:
    """Makes the directories of a repository's storage; those that exist stay."""

def create_repository(
    storage: _Path,
    *,
    fqrn: str,
    hash_algorithm: str,
    uid: int,
    gid: int,
    now_s: int,
    volatile: bool,
    voms_authz: str | None = None,
) -> Committed:
    """Stores the empty root catalog of revision 0."""

def publish(storage: _Path, *, progress: Progress, **request: Unpack[PublishRequest]) -> Committed:
    """Stores what changed in `source` and the catalogs that say so.

    `source` is the writable layer of an overlay (`is_overlay`), or a whole tree that replaces the content.
    """

def copy_directory(storage: _Path, *, source: bytes, target: bytes, request: PublishRequest) -> Committed:
    """Stores the revision in which the directory `source` is there a second time, as `target`; both are absolute.

    Raises `InvalidInput` if there is no such directory, if `target` exists, or if its parent does not.
    """

def publish_into(storage: _Path, *, progress: Progress, target: Target, request: PublishRequest) -> Committed:
    """Stores what changes in one directory of the repository, and the catalogs that say so.

    The source in `request` is an archive or a directory, as `target` says. Raises `Corrupt` for a damaged archive.
    """

def plan_into(
    storage: _Path, *, progress: Progress, target: Target, request: PublishRequest
) -> tuple[list[str], list[str]]:
    """Returns what `publish_into` would change, a line an entry as from `plan_publish`, and its warnings."""

def update_virtual_directory(
    storage: _Path,
    *,
    base_root_hash: str,
    snapshots: list[tuple[str, str, int]] | None,
    hash_algorithm: str,
    ttl_s: int,
    now_s: int,
) -> Committed | None:
    """Makes `/.cvmfs/snapshots` show just `snapshots` (name, root hash, size), or removes it for None.

    Returns None if nothing had to change.
    """

def plan_publish(
    storage: _Path, *, base_root_hash: str, source: _Path, is_overlay: bool, ignore_special_files: bool
) -> list[str]:
    """Returns what a publish would change, a line an entry: `[add] /a/b`, `[mod]`, `[rem]`, `[x-catalog-add] a`."""

@final
class RevisionDiff:
    """The differences between two revisions in the order of paths, read in portions."""

    def __new__(cls, storage: _Path, *, from_root: str, to_root: str) -> Self: ...
    def growth(self) -> list[int]:
        """Returns how many more regular files, symlinks, directories and nested catalogs there are."""

    def next(self, count: int) -> list[tuple[str, str, str, bytes, int]]:
        """Returns at most `count` further differences, none at the end.

        Each is what happened (`A`, `R`, `M`), the letters of a modification, the type (`F`, `D`, `S`, `X`, `N` for a
        marker), the path, and the size in bytes.
        """

def list_bundles(
    storage: str, root_hash: str
) -> list[tuple[bytes, list[tuple[bytes, int | None, bool]], int, str | None]]:
    """Returns the bundles of a revision: trigger, dependencies (path, size in bytes or None where there is no file,
    whether in chunks), number of entries that are no paths, and why nothing can be said of a specification.
    """

def parse_bundle(content: bytes, directory: bytes) -> tuple[list[bytes], int]:
    """Returns the files that a bundle specification lists, and how many of its entries are no paths.

    `directory` is where it lies in the repository. Raises `Corrupt` or `Unsupported` for what is none.
    """

def encode_bundle(paths: list[bytes]) -> tuple[str, int]:
    """Returns a bundle specification of these files of the repository, and how many it cannot hold."""

def list_catalogs(storage: _Path, root_hash: str) -> list[tuple[int, bytes, str, int, int]]:
    """Returns the catalogs of a revision from the root down: depth, path, hash, size in bytes, entries."""

def roll_back(storage: _Path, *, target: str, head: str, revision: int, hash_algorithm: str, now_s: int) -> Committed:
    """Stores the root catalog of the old revision `target` as that of revision number `revision`, which follows `head`.

    Raises `NotFound` if the old revision was collected, `Unsupported` if its schema is too old to be written.
    """

def rewrite_catalogs(
    storage: _Path,
    *,
    base_root_hash: str,
    hash_algorithm: str,
    rule: str,
    uid_map: tuple[dict[int, int], int | None] | None,
    gid_map: tuple[dict[int, int], int | None] | None,
    ttl_s: int,
    now_s: int,
    progress: Progress,
) -> Committed | None:
    """Applies `rule` to every catalog of a revision; None where there is nothing to change.

    Rules: `owners` (by the maps: exact ids, and what all others become), `hardlinks` (groups become files of their
    own), `bulk-hashes` (chunked files lose the hash of the whole), `statistics` (counters are counted again).
    """

def put_object(storage: _Path, content: bytes, *, suffix: str, hash_algorithm: str) -> str:
    """Stores a compressed object (`X` certificate, `M` metainfo) and returns its hash."""

def read_object(storage: _Path, hash_text: str, *, suffix: str, limit: int) -> bytes:
    """Returns the content of a stored object, checked and inflated."""

def write_named(storage: _Path, name: str, content: bytes) -> None:
    """Replaces a file in the repository's root, all or nothing, on disk when it returns."""

def sync_storage(storage: _Path) -> None:
    """Returns when everything stored so far is on disk."""

def hash_content(content: bytes, *, hash_algorithm: str) -> str:
    """Returns the hash of `content`, which is what an object of these stored bytes is named by."""

def names_of_file(file: _Path, *, hash_algorithm: str) -> tuple[str, str]:
    """Returns the names that a cached file of this content may have: as it is, and deflated. Raises `LocalIo`."""

def deflate(content: bytes) -> bytes:
    """Returns `content` as an object stores it: a zlib stream of level 6, the reference publisher's bytes."""

def inflate(stored: bytes, *, size: int) -> bytes:
    """Returns the content of a zlib stream that has to hold exactly `size` bytes.

    Raises `Corrupt` for a damaged stream, another size, or bytes behind the stream's end.
    """

def cut_marks(content: bytes, *, chunk_sizes: tuple[int, int, int]) -> list[int]:
    """Returns the offsets at which a new chunk begins, without 0 and without the end.

    `chunk_sizes` are minimum, average and maximum in bytes. Raises `InvalidInput` for sizes that cannot be.
    """

def list_tags(storage: _Path, *, history: str | None, fqrn: str) -> list[Tag]:
    """Returns the tags, newest first; none without a history."""

def list_branches(storage: _Path, *, history: str | None, fqrn: str) -> list[tuple[str, str, int]]:
    """Returns the branches beside the default one, `''`: name, the branch that each left, its first revision."""

def edit_tags(
    storage: _Path,
    *,
    history: str | None,
    fqrn: str,
    hash_algorithm: str,
    remove: list[str],
    add: list[Tag],
    head: Tag | None,
    branch: tuple[str, str, int] | None = None,
) -> str:
    """Writes a history with tags removed and added and returns its hash; branches without tags go as well.

    `branch` is a new one that the added tags may be on: its name, the branch that it leaves, its first revision.

    `head` is the revision that was just published: `trunk` follows it and `trunk-previous` keeps the one before.
    """

def catalog_facts(storage: _Path, root_hash: str) -> tuple[int, int, int]:
    """Returns revision, last-modified time and uncompressed size of a root catalog."""

def list_references(storage: _Path, *, fqrn: str, checksum: str) -> list[tuple[str, str]]:
    """Returns the references of a log, hash and suffix letter, oldest first."""

def record_references(
    storage: _Path,
    *,
    fqrn: str,
    hash_algorithm: str,
    checksum: str | None,
    references: list[tuple[str, str]],
    now_s: int,
) -> bytes:
    """Returns the reference log of the storage with (hash, suffix) pairs added; nothing is written.

    `checksum` is the hash that the present file must have; None starts a new log.
    """

def check(
    storage: _Path,
    *,
    fqrn: str,
    root_hash: str,
    expected_size: int,
    check_chunks: bool,
    verify_content: bool,
    subtree: str,
    paths: bytes,
) -> tuple[list[tuple[str, str]], list[Finding]]:
    """Walks every catalog of a revision; returns its catalogs (hash, path) and what is wrong.

    `paths` are the rules of a partial replica: other nested catalogs are not looked for.
    """

def check_history(storage: _Path, *, history: str, fqrn: str) -> list[Finding]:
    """Returns what is wrong with a history."""

def check_references(storage: _Path, *, checksum: str, references: list[tuple[str, str]]) -> list[Finding]:
    """Returns what is wrong with the reference log: its hash, and which of the references it lacks."""

def plan_sweep(
    storage: _Path,
    *,
    fqrn: str,
    head: Head,
    checksum: str,
    keep_revisions: int | None,
    keep_since_s: int,
    also_kept: list[str],
    paths: bytes,
    progress: Progress,
) -> SweepPlan:
    """Finds out what a garbage collection can delete; changes nothing.

    Keeps `keep_revisions` revisions before the newest one, or with None those since `keep_since_s` (Unix seconds) and
    the one before them; tagged ones and the roots `also_kept` always. `paths` are the rules of a partial replica, empty
    for everything. `checksum` is that of the reference log.
    """

def rebuild_references(
    storage: _Path, *, fqrn: str, head: Head, checksum: str | None, now_s: int
) -> tuple[bytes, list[tuple[str, str]]]:
    """Returns the reference log with what can be found added, and what that is (hash, suffix); nothing is written."""

def parse_trace(content: bytes) -> tuple[str, bytes, bytes | None, str, list[tuple[bytes, list[int] | None]]]:
    """Reads a learned trace: name of its file, trigger, file after which it begins, listing, (path, offsets)s.

    The third is None where it begins with the trigger. The listing is `whole`, `unordered` where the program begins
    with another of these files each time, or `shared` where uses of the trigger go on differently after them. Raises
    `Corrupt` or `Unsupported` for what is no trace.
    """

def error_kinds() -> list[str]:
    """Returns the kind strings of the engine's errors."""

def is_debug_build() -> bool:
    """Tells whether the engine was built without optimisation."""
