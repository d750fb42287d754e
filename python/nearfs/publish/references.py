"""The log of references as a whole: whether there is one, and building it from what leads to the present.

Owns: where to begin (the manifest). Does not own: what is found (the engine), how file and checksum are replaced
(`revision`). Threading: one command at a time, under the repository's publishing lock.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nearfs import hashes
from nearfs.publish import revision
from nearfs.publish.repository import REFLOG

if TYPE_CHECKING:
    from nearfs.publish.repository import Repository
    from nearfs.records import Head
    from nearfs.signing import ManifestFields


def are_missing(repository: Repository) -> bool:
    """Tells whether a repository of old has no reference log yet; raises `Corrupt` if its log cannot be trusted."""
    if (repository.storage / REFLOG).exists():
        revision.reflog_checksum(repository)
        return False
    return revision.reflog_checksum(repository) is None


def head_of(fields: ManifestFields) -> Head:
    """Returns what a manifest names, for the engine."""
    return {
        "root_hash": fields.root_hash,
        "history": fields.history,
        "certificate": fields.certificate,
        "metainfo": fields.meta_info,
    }


def rebuild(repository: Repository, *, anew: bool = False) -> list[tuple[str, str]]:
    """Adds what the reference log lacks, or starts one; returns what was added (hash, suffix letter).

    The caller holds the publishing lock. `anew` is for a log that is missing although the manifest names it.
    """
    from nearfs import _native

    fields = repository.manifest().fields
    content, added = _native.rebuild_references(
        str(repository.storage),
        fqrn=repository.fqrn,
        head=head_of(fields),
        checksum=None if anew else revision.reflog_checksum(repository),
        now_s=int(time.time()),
    )
    if added or not (repository.storage / REFLOG).exists():
        replace(repository, fields, content)
    return added


def replace(repository: Repository, fields: ManifestFields, content: bytes) -> None:
    """Puts a log in place that the engine made."""
    algorithm = hashes.algorithm_of(fields.root_hash) or repository.hash_algorithm
    revision.replace_reflog(repository, algorithm, content)
