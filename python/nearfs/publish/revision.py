"""From stored catalogs to a served revision: tags, reference log, signature, manifest last.

Owns: the order in which a revision becomes visible, so that a kill at any moment leaves the old one or the new one:

1. objects and catalogs are stored (by the engine), nothing names them;
2. a new history object, certificate and metainfo objects;
3. `reflog.chksum.next` in the spool area, `.cvmfsreflog` in storage, `reflog.chksum`;
4. everything so far is synced to disk;
5. the note of what is about to happen (`<spool>/publishing`);
6. `.cvmfspublished`, by one rename.

Threading: called by one command at a time, under the repository's publishing lock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import files, hashes, keys, signing
from nearfs.errors import Corrupt, Untrusted
from nearfs.publish import ownership
from nearfs.publish.repository import MANIFEST, REFLOG, WHITELIST

if TYPE_CHECKING:
    from pathlib import Path

    from nearfs.publish.repository import Repository

_SUFFIX_ROOT, _SUFFIX_CERTIFICATE, _SUFFIX_HISTORY, _SUFFIX_METAINFO = "C", "X", "H", "M"


@dataclass(frozen=True)
class Head:
    """The root catalog that a manifest is to name."""

    root_hash: str
    root_size: int
    revision: int
    ttl_s: int


def check_whitelist(repository: Repository, now_s: float) -> float:
    """Returns the hours that the whitelist is still valid; raises `Untrusted` if it is not."""
    import datetime as dt

    now = dt.datetime.fromtimestamp(now_s, dt.UTC)
    whitelist = repository.whitelist()
    if whitelist is None:
        message = f"Repository whitelist for {repository.fqrn} is missing: {repository.storage / WHITELIST}"
        raise Untrusted(message, operation="check whitelist", subject=repository.fqrn, exit_code=1)
    if whitelist.is_expired(now):
        message = f"Repository whitelist for {repository.fqrn} is expired!"
        raise Untrusted(message, operation="check whitelist", subject=repository.fqrn, exit_code=1)
    return (whitelist.expires - now).total_seconds() / 3600


def activate(
    repository: Repository,
    head: Head,
    *,
    history: str | None,
    metainfo: str | None,
    garbage_collectable: bool,
    references: list[tuple[str, str]] | None = None,
) -> signing.ManifestFields:
    """Signs a manifest for `head` and puts it in place; returns its fields.

    `references` are intermediate objects of this publish (hash and suffix letter) that
    belong in the reference log as well.
    """
    from nearfs import _native

    key_files = keys.KeyFiles.of(repository.fqrn, repository.places.keys)
    key = keys.load_private_key(key_files.key)
    certificate = keys.read_key_file(key_files.certificate)
    if keys.load_certificate(key_files.certificate).public_key() != key.public_key():
        message = f"{key_files.key} and {key_files.certificate} do not belong together; the manifest was not signed"
        raise Untrusted(message, operation="sign manifest", subject=repository.fqrn, exit_code=1)
    algorithm = hashes.algorithm_of(head.root_hash) or repository.hash_algorithm
    storage = str(repository.storage)
    certificate_hash = _native.put_object(
        storage, certificate, suffix=_SUFFIX_CERTIFICATE, hash_algorithm=algorithm.value
    )
    now_s = int(time.time())
    named = [(head.root_hash, _SUFFIX_ROOT), (certificate_hash, _SUFFIX_CERTIFICATE)]
    if history:
        named.append((history, _SUFFIX_HISTORY))
    if metainfo:
        named.append((metainfo, _SUFFIX_METAINFO))
    reflog = _record(repository, algorithm, [*(references or []), *named], now_s)
    fields = signing.ManifestFields(
        root_hash=head.root_hash,
        root_size=head.root_size,
        revision=head.revision,
        name=repository.fqrn,
        ttl_s=head.ttl_s,
        garbage_collectable=garbage_collectable,
        alternative_paths=repository.is_on("CVMFS_CATALOG_ALT_PATHS"),
        certificate=certificate_hash,
        history=history,
        timestamp=now_s,
        meta_info=metainfo,
        reflog=reflog,
    )
    signed = signing.sign_manifest(signing.manifest_body(fields), algorithm, key)
    if fields.alternative_paths:
        ownership.link_alternatives(repository, named)
    previous_s = ownership.last_activation_s(repository)
    if repository.text("CVMFS_SYNCFS_LEVEL", "default") != "none":
        _native.sync_storage(storage)
    files.replace(note_path(repository), " ".join(filter(None, (head.root_hash, history))) + "\n")
    _native.write_named(storage, MANIFEST, signed)
    ownership.give(repository, previous_s)
    return fields


def note_path(repository: Repository) -> Path:
    """Returns the note of the root hash and the history that a publish is about to activate."""
    return repository.spool / "publishing"


def _record(
    repository: Repository, algorithm: hashes.HashAlgorithm, references: list[tuple[str, str]], now_s: int
) -> str:
    """Adds references to the log, keeping its checksum right whatever is interrupted; returns the new checksum."""
    from nearfs import _native

    checksum = reflog_checksum(repository)
    content = _native.record_references(
        str(repository.storage),
        fqrn=repository.fqrn,
        hash_algorithm=algorithm.value,
        checksum=checksum,
        references=references,
        now_s=now_s,
    )
    return replace_reflog(repository, algorithm, content)


def replace_reflog(repository: Repository, algorithm: hashes.HashAlgorithm, content: bytes) -> str:
    """Puts a reference log in place, its checksum known whatever is interrupted; returns the checksum."""
    from nearfs import _native

    new = hashes.hash_text(content, algorithm)
    files.replace(repository.spool / "reflog.chksum.next", new)
    _native.write_named(str(repository.storage), REFLOG, content)
    files.replace(repository.spool / "reflog.chksum", new)
    files.remove(repository.spool / "reflog.chksum.next")
    return new


def reflog_checksum(repository: Repository) -> str | None:
    """Returns the checksum that the reference log in storage has; None where there is no log yet.

    Raises `Corrupt` if the log is not the one that this machine wrote last.
    """
    try:
        content = (repository.storage / REFLOG).read_bytes()
    except FileNotFoundError:
        if (repository.storage / MANIFEST).exists() and repository.manifest().fields.reflog:
            message = (
                f"{repository.storage / REFLOG} is missing, but the manifest names it; restore it from a backup, "
                f"or let 'cvmfs_server check -r {repository.fqrn}' rebuild it from what is reachable"
            )
            raise Corrupt(message, operation="read reference log", subject=repository.fqrn, exit_code=1) from None
        return None
    known = [files.read_text(repository.spool / name) for name in ("reflog.chksum", "reflog.chksum.next")]
    # What the manifest signs is as good, should the spool area have been lost or damaged.
    known.append(repository.manifest().fields.reflog if (repository.storage / MANIFEST).exists() else None)
    for checksum in known:
        algorithm = hashes.algorithm_of(checksum) if checksum else None
        if algorithm is not None and hashes.hash_text(content, algorithm) == checksum:
            return checksum
    message = (
        f"{repository.storage / REFLOG} is not the reference log that {repository.spool / 'reflog.chksum'} names; "
        "restore it from a backup, or move it away and let "
        f"'cvmfs_server check -r {repository.fqrn}' rebuild it from what is reachable"
    )
    raise Corrupt(message, operation="read reference log", subject=repository.fqrn, exit_code=1)


def resigned(
    repository: Repository, *, history: str | None, references: list[tuple[str, str]] | None = None
) -> signing.ManifestFields:
    """Activates a new history for the present root catalog; `references` as for `activate`."""
    present = repository.manifest().fields
    head = Head(present.root_hash, present.root_size, present.revision, present.ttl_s)
    return activate(
        repository,
        head,
        history=history,
        metainfo=present.meta_info,
        garbage_collectable=present.garbage_collectable,
        references=references,
    )
