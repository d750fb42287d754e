"""Whether a caller can publish without mounts: storage and spool area writable, keys readable.

Owns: the questions and the sentences that name what is missing. Does not own: who is meant to publish (`repository`);
whoever can write the files is. Threading: plain functions.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from nearfs import keys
from nearfs.errors import NotFound, PermissionDenied, ReadOnly

if TYPE_CHECKING:
    from pathlib import Path

    from nearfs.publish.repository import Repository

_OPERATION = "publish"


def check(repository: Repository) -> None:
    """Raises `ReadOnly`, `PermissionDenied` or `NotFound` (exit code 1) naming the first thing that is missing."""
    if not repository.storage.is_dir():
        message = f"the storage of {repository.fqrn}, {repository.storage}, does not exist or cannot be looked into"
        raise NotFound(message, operation=_OPERATION, subject=str(repository.storage), exit_code=1)
    repository.spool.mkdir(parents=True, exist_ok=True)
    for directory in (repository.storage, repository.storage / "data", repository.storage / "data" / "txn"):
        _check_writable(directory, f"the storage of {repository.fqrn}")
    _check_writable(repository.spool, f"the spool area of {repository.fqrn}")
    lock = repository.spool / "is_publishing.lock"
    if lock.exists():
        _check_writable(lock, f"the lock of {repository.fqrn}")
    files = keys.KeyFiles.of(repository.fqrn, repository.places.keys)
    for path in (files.key, files.certificate):
        _check_key(path, repository)


def _check_writable(path: Path, what: str) -> None:
    if not path.exists() or os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0)):
        return
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        message = f"{what} is read-only: {path}: {os.strerror(errno.EROFS)}"
        raise ReadOnly(message, operation=_OPERATION, subject=str(path), exit_code=1)
    message = f"{what} cannot be written by this user: {path}"
    raise PermissionDenied(message, operation=_OPERATION, subject=str(path), exit_code=1)


def _check_key(path: Path, repository: Repository) -> None:
    try:
        with open(path, "rb"):
            return
    except FileNotFoundError:
        message = f"{path} is missing: without it no revision of {repository.fqrn} can be signed"
        raise NotFound(message, operation=_OPERATION, subject=str(path), exit_code=1) from None
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}; without it no revision of {repository.fqrn} can be signed"
        raise PermissionDenied(message, operation=_OPERATION, subject=str(path), exit_code=1) from None
