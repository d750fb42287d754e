"""Verifies a repository's storage (server.md 3.13).

Owns: which checks make up `cvmfs_server check` and how findings are printed. Does not own: the checks (the engine).
Threading: a short-lived command, one thread; the engine uses all cores for contents.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.cli import output
from nearfs.errors import Busy, InvalidInput, NearfsError, NotFound
from nearfs.publish import acting, collection, moments, references, revision, status, tags
from nearfs.publish.places import Places
from nearfs.publish.repository import ANY_ROLE, REFLOG, Repository

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from nearfs.records import Finding
    from nearfs.signing import ManifestFields


_DAY_S = 24 * 3600


@dataclass(frozen=True)
class CheckOptions:
    """What to verify: presence of objects, their content, which revision, which part of it."""

    check_chunks: bool = True
    verify_content: bool = False
    tag: str = ""
    subtree: str = ""
    repair: bool = False


def check(names: Sequence[str], options: CheckOptions) -> int:
    """Checks repositories one after the other; returns 1 if any has a problem."""
    return max((_check_as_owner(name, options) for name in names), default=0)


@acting.by_owner_of_any
def _check_as_owner(repository: Repository, options: CheckOptions) -> int:
    return _check_and_note(repository, options)


def check_all(options: CheckOptions) -> int:
    """Checks the repositories of this machine that were not for long, into a log; one such command runs at a time.

    Always returns 0, as the reference does: the outcome is in the log and in each repository's status.
    """
    places = Places.here()
    lock = places.checking_all_lock
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.exclusive(lock, "another 'check -a' is running"), output.into(places.logs / "checks.log"):
            for name in Repository.all_names(places):
                _check_logged(name, options)
    except Busy as busy:
        output.complain(str(busy))
    return 0


def _check_logged(name: str, options: CheckOptions) -> None:
    try:
        repository = Repository.load(name, roles=ANY_ROLE)
        if not _is_due(repository):
            return
        output.line(f"Starting {name} at {moments.written(time.time())}")
        if _check_as_owner(name, options) != 0:
            output.line("ERROR from cvmfs_server check!")
    except (NearfsError, OSError) as error:
        output.line(f"{error}\nERROR from cvmfs_server check!")
    output.line(f"Finished {name} at {moments.written(time.time())}")


def _is_due(repository: Repository) -> bool:
    days = repository.text("CVMFS_CHECK_ALL_MIN_DAYS") or os.environ.get("CVMFS_CHECK_ALL_MIN_DAYS", "") or "30"
    if not (days.isascii() and days.isdigit()):
        message = f"CVMFS_CHECK_ALL_MIN_DAYS={days} is not a number of days"
        raise InvalidInput(message, operation="check", subject=repository.fqrn, exit_code=1)
    try:
        last_s = moments.parse(status.read(repository).get("last_check", ""))
    except InvalidInput:
        return True
    return time.time() - last_s > int(days) * _DAY_S


def _check_and_note(repository: Repository, options: CheckOptions) -> int:
    """Checks one repository; garbage collection waits meanwhile, and its status says what came out."""
    busy = f"Garbage collection of {repository.fqrn} is running; try again when it is done"
    guard: AbstractContextManager[None] = contextlib.nullcontext()
    if repository.is_replica or repository.is_on("CVMFS_GARBAGE_COLLECTION"):
        guard = files.shared(repository.collecting_lock, busy)
    outcome = "failed"
    try:
        if options.repair:
            _repair(repository)
        with guard:
            code = _check_one(repository, options)
        outcome = "succeeded" if code == 0 else "failed"
    except (Busy, InvalidInput, NotFound):
        outcome = ""  # nothing was checked
        raise
    finally:
        if outcome:
            _note(repository, outcome)
    return code


def _note(repository: Repository, outcome: str) -> None:
    # Whoever may only read the storage may still check it.
    with contextlib.suppress(PermissionError):
        status.update(repository, {"last_check": moments.written(time.time()), "check_status": outcome})


def _repair(repository: Repository) -> None:
    """Adds to the log of references what it lacks; builds a new one where it is gone."""
    with collection.unchanged(repository):
        anew = not (repository.storage / REFLOG).exists()
        added = references.rebuild(repository, anew=anew)
    output.line(f"Repairing log of references: {'built anew' if anew else 'kept'}, {len(added)} references added")
    for hash_text, suffix in added:
        output.line(f"  added {hash_text}{suffix}")


def _check_one(repository: Repository, options: CheckOptions) -> int:
    from nearfs import _native

    output.line(f"Verifying integrity of {repository.fqrn}...")
    fields = repository.manifest().fields
    storage = str(repository.storage)
    findings = _reference_findings(repository, fields)
    if fields.history:
        output.line("Inspecting tag database")
        findings += _native.check_history(storage, history=fields.history, fqrn=repository.fqrn)
    root_hash, size = fields.root_hash, fields.root_size
    if options.tag:
        root_hash, size = _tagged(repository, options.tag)
    catalogs, problems = _native.check(
        storage,
        fqrn=repository.fqrn,
        root_hash=root_hash,
        expected_size=size,
        check_chunks=options.check_chunks,
        verify_content=options.verify_content,
        subtree=options.subtree,
        paths=repository.partial_paths,
    )
    for catalog, path in catalogs:
        output.line(f"[inspecting catalog] {catalog} at {path or '/'}")
    findings += problems
    for finding in findings:
        output.complain(f"{finding['subject']}: {finding['problem']}")
    if findings:
        output.complain("CATALOG PROBLEMS OR OTHER ERRORS FOUND")
        return 1
    output.line("no problems found")
    return 0


def _reference_findings(repository: Repository, fields: ManifestFields) -> list[Finding]:
    from nearfs import _native

    checksum = revision.reflog_checksum(repository)
    if checksum is None:
        return []
    output.line("Inspecting log of references")
    named = [(fields.root_hash, "C"), (fields.certificate, "X"), (fields.history, "H"), (fields.meta_info, "M")]
    references = [(hash_text, suffix) for hash_text, suffix in named if hash_text]
    return _native.check_references(str(repository.storage), checksum=checksum, references=references)


def _tagged(repository: Repository, name: str) -> tuple[str, int]:
    for tag in tags.listed(repository):
        if tag["name"] == name:
            return tag["root_hash"], tag["size"]
    raise NotFound(f"tag '{name}' does not exist", operation="check", subject=name, exit_code=1)
