"""Signatures made anew: the whitelist by the master key, the manifest by the certificate's key (server.md 3.17).

Owns: which certificates a renewed whitelist names, and where it is written. Does not own: the texts (`whitelist`,
`signing`) and questions to people.
Threading: one command at a time; a manifest is signed under the repository's publishing lock.
"""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING

from nearfs import files, hashes, keys, signing, whitelist
from nearfs.config import names
from nearfs.errors import Busy, Corrupt, InvalidInput, NotFound, PermissionDenied
from nearfs.publish import healing, ownership, revision
from nearfs.publish.repository import WHITELIST

if TYPE_CHECKING:
    from pathlib import Path

    from nearfs.publish.places import Places
    from nearfs.publish.repository import Repository

_WHITELIST_LIMIT_BYTES = 1 << 20


def check_caller(fqrn: str) -> None:
    """Refuses everybody but root: only root can read the master key."""
    if os.geteuid() != 0:
        raise PermissionDenied("Only root can resign whitelists", operation="resign", subject=fqrn, exit_code=1)


def check_days(days: int) -> None:
    """Refuses a life time that no whitelist can have."""
    if not 1 <= days <= whitelist.MAX_DAYS:
        message = f"a whitelist is valid for 1 to {whitelist.MAX_DAYS} days, not {days} (-d)"
        raise InvalidInput(message, operation="resign", exit_code=1)


def master_key_file(fqrn: str, places: Places) -> Path:
    """Returns the master key's file; raises `NotFound` with the way out where this machine has none."""
    path = keys.KeyFiles.of(fqrn, places.keys).master
    if not path.exists():
        message = (
            f"{path} is missing, so the whitelist of {fqrn} cannot be signed here: copy the master key back from its "
            "safe place (mode 0400), or run this command where it is, with -w and a copy of .cvmfswhitelist"
        )
        raise NotFound(message, operation="resign", subject=fqrn, exit_code=1)
    return path


def forgotten(repository: Repository) -> list[str]:
    """Returns the fingerprints of the present whitelist that a renewal for the repository's certificate leaves out."""
    try:
        present = repository.whitelist()
    except Corrupt:  # is replaced by one that is whole
        return []
    if present is None:
        return []
    own = _own_fingerprint(repository)
    return [entry.text for entry in present.fingerprints if entry.hash_text != own.hash_text]


def renew(repository: Repository, days: int) -> None:
    """Puts a whitelist for the repository's certificate in place, valid from now on for `days`."""
    from nearfs import _native

    check_caller(repository.fqrn)
    master = keys.load_private_key(master_key_file(repository.fqrn, repository.places))
    signed = whitelist.sign_whitelist(
        repository.fqrn,
        [_own_fingerprint(repository)],
        master,
        dt.datetime.now(dt.UTC),
        days=days,
        hash_algorithm=repository.hash_algorithm,
    )
    _native.write_named(str(repository.storage), WHITELIST, signed)
    ownership.give_path(repository, repository.storage / WHITELIST)


def renew_file(fqrn: str, path: Path, places: Places, days: int) -> None:
    """Renews a whitelist that lies in a file: its fingerprints stay, its times and its signature are new.

    The repository itself need not be on this machine, only its master key.
    """
    check_caller(fqrn)
    names.check_fqrn(fqrn)
    present = whitelist.parse_whitelist(_content(path))
    if present.fqrn != fqrn:
        message = f"{path} is the whitelist of {present.fqrn}, not of {fqrn}"
        raise InvalidInput(message, operation="resign", subject=fqrn, exit_code=1)
    if present.pkcs7 or present.ca_chain:
        message = f"{path} asks for PKCS#7 or a chain of authorities, which a master key does not sign"
        raise InvalidInput(message, operation="resign", subject=fqrn, exit_code=1)
    master = keys.load_private_key(master_key_file(fqrn, places))
    algorithm = hashes.algorithm_of(present.signed.hash_text) or hashes.HashAlgorithm.SHA1
    now = dt.datetime.now(dt.UTC)
    signed = whitelist.sign_whitelist(fqrn, present.fingerprints, master, now, days=days, hash_algorithm=algorithm)
    files.replace(path, signed, path.stat().st_mode & 0o777)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as source:
            return source.read(_WHITELIST_LIMIT_BYTES)
    except FileNotFoundError:
        raise NotFound(f"{path}: there is no such whitelist (-w)", operation="resign", exit_code=1) from None


def _own_fingerprint(repository: Repository) -> whitelist.Fingerprint:
    certificate = keys.load_certificate(keys.KeyFiles.of(repository.fqrn, repository.places.keys).certificate)
    der = keys.certificate_der(certificate)
    return whitelist.Fingerprint(signing.certificate_fingerprint(der, repository.hash_algorithm))


def sign_manifest(repository: Repository) -> None:
    """Signs the present manifest again with the repository's key and certificate, after either was exchanged."""
    with healing.working(repository):
        # A kill behind the note of what is activated would close the transaction as a published one.
        if repository.is_in_transaction:
            message = f"Cannot sign the manifest of {repository.fqrn} while in a transaction"
            raise Busy(message, operation="resign", subject=repository.fqrn, exit_code=1)
        revision.resigned(repository, history=repository.manifest().fields.history)
        files.remove(revision.note_path(repository))
