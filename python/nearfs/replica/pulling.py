"""Bringing one replica up to date (server.md 3.15, format.md 11.1).

Owns: the lock, the marks that others see, and the order in which a new revision becomes visible: objects and catalogs
(the engine), reference log, whitelist, manifest last. A kill at any moment leaves the old revision whole, and the next
snapshot goes on where this one ended. Does not own: which objects are needed (the engine, `replica/pull`).
Threading: called from the command's main thread; the engine works beside it, so that an interrupt reaches it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import files, hashes, signing
from nearfs.errors import Busy, Corrupt, InvalidInput, NotFound, Unreachable
from nearfs.publish import collection, moments, ownership, revision, status
from nearfs.publish.repository import MANIFEST, WHITELIST
from nearfs.replica import source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nearfs._native import Progress, ReplicaSource
    from nearfs.publish.repository import Repository
    from nearfs.records import Pulled, SourceAnswer
    from nearfs.signing import Manifest

LAST = ".cvmfs_last_snapshot"
UNDER_WAY = ".cvmfs_is_snapshotting"
_PATHS = "pulled.paths"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_ATTEMPTS = 3
_POLL_S = 1.0
# The first snapshot of a large repository takes hours; whoever waits longer for it should know that it is there.
_WAIT_LIMIT_S = 24 * 3600.0


@dataclass(frozen=True)
class Snapshotting:
    """How to make a snapshot: whether to wait for one under way, and who hears about it."""

    progress: Progress
    say: Callable[[str], None]
    waits: bool = True


def is_initial(replica: Repository) -> bool:
    """Tells whether there was no complete snapshot yet."""
    return not (replica.storage / LAST).exists()


def snapshot(replica: Repository, wanted: Snapshotting) -> Pulled | None:
    """Makes the replica what its source is now; returns the counters, None for a pass-through replica.

    Raises `Busy` where another snapshot runs, `Untrusted` where the source cannot be believed, `NotFound` for objects
    that it does not have, `Corrupt` for damaged ones. Readers see the old revision until the new one is whole.
    """
    if replica.is_on("CVMFS_PASSTHROUGH"):
        wanted.say("Pass-through repository, skipping snapshot")
        return None
    with _alone(replica, wanted), _marked(replica):
        if is_initial(replica):
            wanted.say("Initial snapshot")
        pulled = brought_over(replica, wanted)
        _after(replica, wanted)
    return pulled


@contextlib.contextmanager
def _alone(replica: Repository, wanted: Snapshotting) -> Iterator[None]:
    what = "an initial snapshot" if is_initial(replica) else "another update"
    refusal = f"{replica.name}: {what} is in progress... aborting"
    deadline = time.monotonic() + _WAIT_LIMIT_S
    has_said = False
    while True:
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(files.exclusive(replica.updating_lock, refusal))
            except Busy:
                if not wanted.waits or is_initial(replica) or time.monotonic() > deadline:
                    raise
                if not has_said:
                    wanted.say("waiting for another update to finish...")
                    has_said = True
                time.sleep(_POLL_S)
                continue
            yield
            return


@contextlib.contextmanager
def _marked(replica: Repository) -> Iterator[None]:
    """Shows that a snapshot is under way. The mark goes with it, also where it fails; a kill leaves it."""
    mark = replica.storage / UNDER_WAY
    files.replace(mark, moments.written(time.time()) + "\n")
    try:
        yield
    finally:
        files.remove(mark)


def _boot_id() -> str:
    return files.read_text(_BOOT) or ""


def _survived(replica: Repository) -> bool:
    """Tells whether the machine was up all the time since the last snapshot began, if that one did not end.

    A power cut can leave objects of the right name without their content: then names are not believed.
    """
    begun = files.read_text(replica.spool / "pulling")
    return begun is None or begun == _boot_id()


def brought_over(replica: Repository, wanted: Snapshotting) -> Pulled:
    """Makes the replica what its source is now, and says what came. The caller holds its lock."""
    asked = source.of(replica)
    listed = replica.text("CVMFS_PUBLIC_KEY")
    keys = source.public_keys(listed)
    wanted.say(f"CernVM-FS: replicating from {replica.text('CVMFS_STRATUM0')}")
    wanted.say(f"CernVM-FS: using public key(s) {', '.join(map(str, source.key_files(listed)))}")
    wanted.say(f"Starting {replica.number('CVMFS_NUM_WORKERS', source.DEFAULT_WORKERS)} workers")
    verifies = not _survived(replica)
    if verifies:
        wanted.say("The machine went down during the last snapshot: verifying what it left")
    else:
        # Until a snapshot has verified everything, the next one has to, whatever ends this one.
        files.replace(replica.spool / "pulling", _boot_id())
    with _resumable(replica):
        head, pulled = _consistent(replica, asked, keys, wanted, verifies=verifies)
    _activate(replica, head["manifest"], head["whitelist"], pulled)
    files.remove(replica.spool / "pulling")
    return pulled


@contextlib.contextmanager
def _resumable(replica: Repository) -> Iterator[None]:
    """Says of a source that cannot be reached what to do."""
    try:
        yield
    except Unreachable as gone:
        message = f"{gone}; what came is kept: run 'cvmfs_server snapshot {replica.name}' again when it answers"
        raise Unreachable(message, operation="snapshot", subject=replica.name, exit_code=1) from gone


def _consistent(
    replica: Repository, asked: ReplicaSource, keys: list[bytes], wanted: Snapshotting, *, verifies: bool
) -> tuple[SourceAnswer, Pulled]:
    """Brings over what the source says now, and says both; asks it anew where objects are gone meanwhile."""
    before, missing = b"", None
    for left in reversed(range(_ATTEMPTS)):
        head = asked.head(str(replica.storage), public_keys=keys, now_s=int(time.time()))
        manifest = signing.parse_manifest(head["manifest"])
        _refuse_older(replica, manifest)
        try:
            return head, _pull(replica, asked, manifest, wanted, verifies=verifies)
        except NotFound as error:
            if before == head["manifest"]:
                message = f"{error}; the source is not whole: let 'cvmfs_server check' run there. Nothing changed here"
                raise NotFound(message, operation="snapshot", subject=replica.name, exit_code=1) from error
            # Collected or published over meanwhile: what the source says now is whole again.
            before, missing = head["manifest"], error
            if left:
                wanted.say(f"Warning: {missing}; asking the source again")
    message = f"{missing}; the source changes faster than it can be read: try again later"
    raise NotFound(message, operation="snapshot", subject=replica.name, exit_code=1)


def _present(replica: Repository) -> Manifest | None:
    return replica.manifest() if (replica.storage / MANIFEST).exists() else None


def _refuse_older(replica: Repository, manifest: Manifest) -> None:
    present = _present(replica)
    if present is None or manifest.fields.revision >= present.fields.revision:
        return
    message = (
        f"{replica.name}: the source has revision {manifest.fields.revision}, which is older than the replica's "
        f"{present.fields.revision}; nothing was changed. Was the source restored from a backup? Then make the replica "
        "anew (cvmfs_server rmfs, add-replica)"
    )
    raise InvalidInput(message, operation="snapshot", subject=replica.name, exit_code=1)


def _pull(
    replica: Repository, asked: ReplicaSource, manifest: Manifest, wanted: Snapshotting, *, verifies: bool
) -> Pulled:
    fields = manifest.fields
    threshold_s = None
    if fields.garbage_collectable:
        threshold_s = moments.parse(replica.text("CVMFS_AUTO_GC_TIMESPAN", collection.DEFAULT_SPAN))
    known = [found for found, letter in _references(replica) if letter == "C"]
    # A script that pulls by itself leaves no mark of a snapshot, but what it brought over.
    initial, paths = is_initial(replica) and _present(replica) is None, replica.partial_paths
    rewalks = paths != _paths_before(replica)
    if rewalks:
        # No rules are like this: after a kill, the next pull walks again whatever the rules are then.
        files.replace(replica.spool / _PATHS, paths + b"\0")
    wanted.say("Replicating from trunk catalog at /")
    progress = wanted.progress
    pulled = collection.interruptibly(
        lambda: asked.pull(
            str(replica.storage),
            is_initial=initial,
            threshold_s=threshold_s,
            verifies=verifies,
            known=known,
            paths=paths,
            rewalks=rewalks,
            progress=progress,
        ),
        progress,
    )
    if rewalks:
        files.replace(replica.spool / _PATHS, paths)
    wanted.say(f"  fetched {pulled['objects_new']} new chunks out of {pulled['objects_seen']} unique chunks")
    if fields.history:
        wanted.say(f"Found {pulled['tags']} named snapshots")
    for warning in pulled["warnings"]:
        wanted.say(warning)
    return pulled


def _paths_before(replica: Repository) -> bytes:
    """Returns the rules of the last pull; those of one that has everything are empty."""
    try:
        return (replica.spool / _PATHS).read_bytes()
    except FileNotFoundError:
        return b""


def _references(replica: Repository) -> list[tuple[str, str]]:
    """Returns what the reference log has; nothing where there is none."""
    from nearfs import _native

    checksum = revision.reflog_checksum(replica)
    if checksum is None:
        return []
    return _native.list_references(str(replica.storage), fqrn=replica.fqrn, checksum=checksum)


def _activate(replica: Repository, raw: bytes, whitelist: bytes, pulled: Pulled) -> None:
    """Lets readers see what was brought over: reference log, whitelist, manifest."""
    from nearfs import _native

    fields = signing.parse_manifest(raw).fields
    named = [(fields.root_hash, "C"), (fields.certificate, "X"), (fields.history, "H"), (fields.meta_info, "M")]
    present = [(found, letter) for found, letter in named if found]
    known = set(_references(replica))
    missing = [one for one in [*((root, "C") for root in pulled["roots"]), *present] if one not in known]
    algorithm = hashes.algorithm_of(fields.root_hash)
    if algorithm is None:
        message = f"{replica.name}: root catalog {fields.root_hash} is no hash of a known algorithm"
        raise Corrupt(message, operation="snapshot", subject=replica.name, exit_code=1)
    storage = str(replica.storage)
    if missing or not known:
        content = _native.record_references(
            storage,
            fqrn=replica.fqrn,
            hash_algorithm=algorithm.value,
            checksum=revision.reflog_checksum(replica),
            references=list(dict.fromkeys(missing)),
            now_s=int(time.time()),
        )
        revision.replace_reflog(replica, algorithm, content)
    if fields.alternative_paths:
        ownership.link_alternatives(replica, present)
    for name, content in ((WHITELIST, whitelist), (MANIFEST, raw)):
        path = replica.storage / name
        if not path.exists() or path.read_bytes() != content:
            _native.write_named(storage, name, content)


def _after(replica: Repository, wanted: Snapshotting) -> None:
    """Notes the moment, for people and for monitoring. Garbage is collected later, without the lock of updates."""
    moment = moments.written(time.time())
    files.replace(replica.storage / LAST, moment + "\n")
    status.update(replica, {"last_snapshot": moment})
    wanted.say(f"Replica of {replica.fqrn} is at revision {replica.manifest().fields.revision}")
