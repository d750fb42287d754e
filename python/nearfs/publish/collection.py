"""Garbage collection of one repository: locks, order, what is said, and when it happens by itself.

Owns: who is kept out meanwhile (publishers, by their lock; checks, by `is_collecting.lock`), the deletion log's frame,
the status file. Does not own: what can be deleted and in which order (the engine, `replica/sweep`).

An open transaction is no obstacle: its changes lie in the spool area, and the revision below it is kept.
Threading: called from the command's main thread; the engine works beside it, so that an interrupt reaches it.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nearfs import files, hashes
from nearfs.errors import InvalidInput, NearfsError
from nearfs.publish import healing, moments, ownership, references, revision, statistics, status
from nearfs.publish.repository import MANIFEST, REFLOG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from nearfs._native import Progress, SweepPlan
    from nearfs.publish.repository import Repository
    from nearfs.records import Swept
    from nearfs.signing import ManifestFields

T = TypeVar("T")

DEFAULT_SPAN = "3 days ago"
_DEFAULT_LAPSE = "1 day ago"
_POLL_S = 0.5
_KINDS = (("H", "history"), ("X", "certificate"), ("M", "metainfo"))


@dataclass(frozen=True)
class Collecting:
    """What to collect: revisions but the newest `keep_revisions + 1`, or with None those before `keep_since_s`."""

    keep_revisions: int | None = None
    keep_since_s: int = 0
    dry_run: bool = False
    list_objects: bool = False
    deletion_log: Path | None = None


def check_collectable(repository: Repository) -> None:
    """Raises `InvalidInput` if the repository's configuration or its manifest does not allow garbage collection."""
    # A replica follows what the publisher signed.
    allowed = repository.is_replica or repository.is_on("CVMFS_GARBAGE_COLLECTION")
    if allowed and repository.manifest().fields.garbage_collectable:
        return
    message = f"Garbage Collection is not enabled for {repository.fqrn}"
    if allowed and not repository.is_replica:
        message += ": its manifest does not say so yet, the next publish changes that"
    raise InvalidInput(message, operation="collect garbage", subject=repository.fqrn, exit_code=1)


def is_empty(repository: Repository) -> bool:
    """Tells whether there is no revision at all."""
    return not (repository.storage / MANIFEST).exists()


def unchanged(repository: Repository) -> AbstractContextManager[object]:
    """Keeps publishers out, or whoever updates a replica."""
    if repository.is_replica:
        return files.exclusive(repository.updating_lock, f"S1 updates of {repository.name} are blocked by a snapshot")
    return healing.working(repository)


@contextlib.contextmanager
def _alone(repository: Repository) -> Iterator[None]:
    with (
        unchanged(repository),
        files.exclusive(
            repository.collecting_lock,
            f"Garbage collection or a check of {repository.fqrn} is running; try again when it is done",
        ),
    ):
        yield


def collect(repository: Repository, wanted: Collecting, say: Callable[[str], None]) -> Swept | None:
    """Deletes what no kept revision needs; returns the counters, None for a repository without a revision.

    Raises `Busy` while somebody publishes, collects or checks; `Corrupt` or `NotFound` where it cannot be known what
    is needed. Whatever it raises, what kept revisions need is in place, and the next collection does the rest.
    """
    from nearfs import _native

    if is_empty(repository):
        say(f"Repository {repository.fqrn} is empty, nothing to do")
        return None
    check_collectable(repository)
    with _alone(repository):
        if references.are_missing(repository):
            if wanted.dry_run:
                message = "Reflog reconstruction needed. Cannot do a dry-run."
                raise InvalidInput(message, operation="collect garbage", subject=repository.fqrn, exit_code=1)
            say("Reconstructing the log of references")
            references.rebuild(repository)
        say("Running Garbage Collection")
        started_s = time.time()
        progress = _native.Progress()
        fields = repository.manifest().fields
        begun = time.monotonic()
        plan = interruptibly(lambda: _plan(repository, fields, wanted, progress), progress)
        _say_plan(plan, say, begun)
        begun = time.monotonic()
        swept = _swept(repository, plan, wanted, progress, say)
        if swept["reflog"] is not None:
            references.replace(repository, fields, swept["reflog"])
        if not wanted.dry_run:
            ownership.unlink_lost_alternatives(repository)
            status.update(repository, {"last_gc": moments.written(time.time())})
            statistics.record_gc(repository, _counts(plan, swept), started_s, say)
    for warning in [*plan.warnings, *swept["warnings"]]:
        say(f"Warning: {warning}")
    measured = repository.is_on("CVMFS_EXTENDED_GC_STATS") or wanted.dry_run
    _say_swept(swept, say, begun, dry_run=wanted.dry_run, measured=measured)
    return swept


def _counts(plan: SweepPlan, swept: Swept) -> dict[str, int]:
    """Returns the columns of the statistics."""
    return {
        "n_preserved_catalogs": plan.catalogs_kept,
        "n_condemned_catalogs": swept["catalogs"],
        "n_condemned_objects": swept["objects"],
        "sz_condemned_bytes": swept["bytes"],
        "n_duplicate_delete_requests": swept["duplicates"],
    }


def _plan(repository: Repository, fields: ManifestFields, wanted: Collecting, progress: Progress) -> SweepPlan:
    from nearfs import _native

    checksum = revision.reflog_checksum(repository)
    if checksum is None:
        message = f"{repository.storage / REFLOG} vanished; run 'cvmfs_server check -r {repository.fqrn}'"
        raise InvalidInput(message, operation="collect garbage", subject=repository.fqrn, exit_code=1)
    return _native.plan_sweep(
        str(repository.storage),
        fqrn=repository.fqrn,
        head=references.head_of(fields),
        checksum=checksum,
        keep_revisions=wanted.keep_revisions,
        keep_since_s=wanted.keep_since_s,
        also_kept=_in_use(repository),
        paths=repository.partial_paths,
        progress=progress,
    )


def _in_use(repository: Repository) -> list[str]:
    """Returns the root catalogs that this machine shows: below the union, and checked out."""
    checked_out = (files.read_text(repository.spool / "checkout") or "").split(" ")[1:2]
    return [text for text in (repository.mounted_root or "", *checked_out) if hashes.algorithm_of(text)]


def _swept(
    repository: Repository, plan: SweepPlan, wanted: Collecting, progress: Progress, say: Callable[[str], None]
) -> Swept:
    measure = repository.is_on("CVMFS_EXTENDED_GC_STATS")
    total, said = plan.condemned, -1

    def report() -> None:
        nonlocal said
        done = progress.counts()["files_done"]
        if total and done != said:
            said = done
            say(f" - {100 * done // total}% {done} / {total} unreferenced revisions removed")

    with _listing(wanted, say) as listing:
        swept = interruptibly(
            lambda: plan.execute(is_dry_run=wanted.dry_run, measure=measure, listing=listing, progress=progress),
            progress,
            report,
        )
    report()
    return swept


@contextlib.contextmanager
def _listing(wanted: Collecting, say: Callable[[str], None]) -> Iterator[Path | None]:
    """Yields the file that takes the names of deleted objects, if anybody wants them, and shows them afterwards."""
    log = None if wanted.dry_run else wanted.deletion_log
    if log is None and not wanted.list_objects:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="nearfs-gc-") as scratch:
        path = log or Path(scratch) / "objects"
        if log is not None:
            _append(log, f"# Garbage Collection started at {moments.written(time.time())}")
        begin = path.stat().st_size if path.exists() else 0
        try:
            yield path
        finally:
            if wanted.list_objects and path.exists():
                with path.open(encoding="utf-8") as lines:
                    lines.seek(begin)
                    for line in lines:
                        say(line.rstrip("\n"))
        if log is not None:
            _append(log, f"# Garbage Collection finished at {moments.written(time.time())}")


def _append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as out:
        out.write(line + "\n")


def interruptibly(work: Callable[[], T], progress: Progress, report: Callable[[], None] | None = None) -> T:
    """Runs the engine beside the main thread, which sees a signal only between its own steps."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as worker:
        running: Future[T] = worker.submit(work)
        try:
            while True:
                try:
                    return running.result(timeout=_POLL_S)
                except TimeoutError:
                    if running.done():
                        raise
                    if report:
                        report()
        except KeyboardInterrupt:
            progress.cancel()
            raise


def _say_plan(plan: SweepPlan, say: Callable[[str], None], begun: float) -> None:
    for kept in plan.kept:
        added = kept["added_s"] if kept["added_s"] is not None else kept["last_modified_s"]
        say(f"Preserving Revision {kept['revision']} ({_moment(kept['last_modified_s'])} / added @ {_moment(added)})")
    say(f" --> marking unreferenced objects [{time.monotonic() - begun:.1f}s]")
    say(f"Sweeping auxiliary objects older than {_moment(plan.oldest_kept_s)}")
    for letter, noun in _KINDS:
        say(f"Scanning {plan.referenced.get(letter, 0)} {noun} objects")


def _say_swept(swept: Swept, say: Callable[[str], None], begun: float, *, dry_run: bool, measured: bool) -> None:
    say(f" --> sweeping unreferenced objects [{time.monotonic() - begun:.1f}s]")
    volume = f", {swept['bytes']} bytes" if measured else ""
    say(
        f"{'Would remove' if dry_run else 'Removed'} {swept['revisions']} revisions: {swept['objects']} objects, "
        f"{swept['catalogs']} catalogs, {swept['auxiliary']} auxiliary objects{volume}"
    )
    say(f" --> done garbage collecting [{time.monotonic() - begun:.1f}s]")


def _moment(unix_s: int) -> str:
    return time.strftime("%d %b %Y %H:%M:%S", time.localtime(unix_s))


def is_due(repository: Repository) -> bool:
    """Tells whether automatic collection is on and the last one long enough ago.

    Raises `InvalidInput` for a setting that is no moment.
    """
    if not repository.is_on("CVMFS_AUTO_GC"):
        return False
    if not (repository.is_replica or repository.is_on("CVMFS_GARBAGE_COLLECTION")):
        return False
    last = status.read(repository).get("last_gc", "")
    before_s = moments.parse(repository.text("CVMFS_AUTO_GC_LAPSE", _DEFAULT_LAPSE))
    with contextlib.suppress(InvalidInput):
        return moments.parse(last) < before_s
    return True


def deletion_log(repository: Repository, named: str = "") -> Path | None:
    """Returns the file for the names of deleted objects: the named one, or the configured one."""
    text = named or repository.text("CVMFS_GC_DELETION_LOG")
    return Path(text) if text else None


def after_publish(repository: Repository, say: Callable[[str], None]) -> int:
    """Collects garbage where it is due. The publish is done: whatever fails here is said, and 0 is returned."""
    try:
        if is_due(repository):
            say("Running automatic garbage collection")
            span = repository.text("CVMFS_AUTO_GC_TIMESPAN", DEFAULT_SPAN)
            wanted = Collecting(keep_since_s=moments.parse(span), deletion_log=deletion_log(repository))
            collect(repository, wanted, say)
    except (NearfsError, OSError) as error:
        say(f"Warning: automatic garbage collection failed, the new revision is published: {error}")
    return 0
