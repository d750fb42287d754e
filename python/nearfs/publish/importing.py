"""Taking over a repository whose storage and keys are here already (server.md 3.3): from a backup, or another machine.

Owns: what has to be there, the order of steps, and undoing them where one fails. Does not own: configuration, keys,
mounts, signatures, which are made as `mkfs` and `resign` make them.
Threading: one command at a time; root only.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import pwd
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nearfs import files, hashes, keys, signing
from nearfs.errors import InvalidInput, NotFound
from nearfs.publish import creation, mounttable, overlay, resigning, revision, server_files
from nearfs.publish.repository import MANIFEST, REFLOG, WHITELIST, Repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nearfs.publish.creation import NewRepository, Step
    from nearfs.publish.places import Places

_WHITELIST_DAYS = 30


@dataclass(frozen=True)
class Importing:
    """What `cvmfs_server import` was asked for, beside what `mkfs` is: `new.import_keys_from` is `-k`."""

    new: NewRepository
    renew_whitelist: bool = False
    renew_key: bool = False


def run(wanted: Importing, places: Places, step: Step) -> Repository:
    """Makes stored revisions a repository of this machine; what it made is removed again where a step fails."""
    new, storage = _checked(wanted, places)
    entry = pwd.getpwnam(new.owner)
    owner = keys.Owner(entry.pw_uid, entry.pw_gid)
    with _undone_on_failure(new.fqrn, storage, places):
        with step("Creating configuration files"):
            server_files.write_configuration(new, places)
            repository = Repository.load(new.fqrn, places)
        with step("Importing the given key files"):
            places.keys.mkdir(parents=True, exist_ok=True)
            keys.import_keys(new.fqrn, new.import_keys_from, places.keys, owner=owner, is_whole=False)
        with step("Creating CernVM-FS Repository Infrastructure"):
            overlay.make_directories(repository)
            (repository.spool / "tmp").mkdir(exist_ok=True)
            (repository.spool / "cache").mkdir(exist_ok=True)
            mounttable.add(repository)
            if new.configure_apache:
                creation.configure_web_server(repository)
        with step("Re-creating reflog content hash"):
            _note_checksum(repository)
        _sign(repository, wanted, owner, step)
        if new.configure_apache:
            creation.await_web_server(repository)
        with step("Importing CernVM-FS storage"):
            creation.give_to_owner(repository, owner)
        with step("Mounting CernVM-FS Storage", "(overlayfs) "):
            creation.mount(repository)
        with step("Updating global JSON information"):
            server_files.write_repositories_json(places)
    return repository


def _checked(wanted: Importing, places: Places) -> tuple[NewRepository, Path]:
    """Refuses, before anything is written, what cannot be imported; completes the settings from the manifest."""
    new = wanted.new
    if not new.import_keys_from:
        raise _refused("Please provide the location of the repository security keys (-k)")
    creation.check(replace(new, import_keys_from=""), places)
    storage = Repository(new.fqrn, places, server_files.default_settings(new.fqrn, places, new)).storage
    expected = [storage, storage / "data", storage / "data" / "txn", storage / MANIFEST]
    expected += [storage / "data" / f"{number:02x}" for number in range(256)]
    for path in expected:
        if not path.exists():
            raise NotFound(f"{path} missing", operation="import", subject=new.fqrn, exit_code=1)
    fields = signing.parse_manifest((storage / MANIFEST).read_bytes()).fields
    if fields.name != new.fqrn:
        raise _refused(f"{storage / MANIFEST} belongs to repository {fields.name!r}, not to {new.fqrn}")
    _check_keys(wanted)
    if not wanted.renew_whitelist:
        _check_whitelist(new.fqrn, storage, places)
    algorithm = hashes.algorithm_of(fields.root_hash) or hashes.HashAlgorithm.SHA1
    return replace(
        new,
        hash_algorithm=algorithm.value,
        garbage_collectable=fields.garbage_collectable,
        import_keys_from=new.import_keys_from,
    ), storage


def _check_keys(wanted: Importing) -> None:
    given = keys.KeyFiles.of(wanted.new.fqrn, wanted.new.import_keys_from)
    if not os.path.exists(given.public):
        raise NotFound(f"{given.public} missing", operation="import", subject=wanted.new.fqrn, exit_code=1)
    if wanted.renew_key and not wanted.renew_whitelist:
        raise _refused("using -t implies whitelist recreation (use -r maybe?)")
    if not wanted.renew_key and not (os.path.exists(given.key) and os.path.exists(given.certificate)):
        raise _refused("repository signing key or certificate not found (use -t maybe?)")
    if wanted.renew_whitelist and not os.path.exists(given.master):
        raise _refused("Neither masterkey nor masterkeycard found for recreating whitelist")
    keys.check_key_files(given, is_whole=False)


def _check_whitelist(fqrn: str, storage: Path, places: Places) -> None:
    path = storage / WHITELIST
    if not path.exists():
        raise _refused(f"didn't find {path}")
    probe = Repository(fqrn, places, {"CVMFS_UPSTREAM_STORAGE": f"local,{storage}/data/txn,{storage}"})
    whitelist = probe.whitelist()
    if whitelist is None or whitelist.is_expired(dt.datetime.now(dt.UTC)):
        raise _refused("Repository whitelist expired (use -r maybe?)")


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message, operation="import", exit_code=1)


def _note_checksum(repository: Repository) -> None:
    """Takes over the log of references as it lies there: this machine has no other word for it than the file itself."""
    log = repository.storage / REFLOG
    if log.exists():
        algorithm = hashes.algorithm_of(repository.manifest().fields.root_hash) or repository.hash_algorithm
        files.replace(repository.spool / "reflog.chksum", hashes.hash_text(log.read_bytes(), algorithm))


def _sign(repository: Repository, wanted: Importing, owner: keys.Owner, step: Step) -> None:
    if wanted.renew_key:
        with step("Creating new repository signing key"):
            own = keys.KeyFiles.of(repository.fqrn, repository.places.keys)
            for path in (own.key, own.certificate):
                files.remove(path)
            keys.create_signing_key(repository.fqrn, own, now=dt.datetime.now(dt.UTC), owner=owner)
    if wanted.renew_whitelist:
        with step(f"Signing {_WHITELIST_DAYS} day whitelist with master key"):
            resigning.renew(repository, _WHITELIST_DAYS)
    if wanted.renew_key:
        with step("Signing newly imported Repository"):
            revision.resigned(repository, history=repository.manifest().fields.history)
            files.remove(revision.note_path(repository))


@contextlib.contextmanager
def _undone_on_failure(fqrn: str, storage: Path, places: Places) -> Iterator[None]:
    """Leaves storage and machine as they were where a step fails; keys that were there before stay."""
    kept = {name: (storage / name).read_bytes() for name in (MANIFEST, WHITELIST, REFLOG) if (storage / name).exists()}
    own = [f"{fqrn}.{suffix}" for suffix in ("masterkey", "pub", "key", "crt", "gw")]
    new_keys = [places.keys / name for name in own if not (places.keys / name).exists()]
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # the failure itself is what is to be told
            creation.remove(fqrn, places, keep_content=True, step=lambda *_words: contextlib.nullcontext())
        for name, content in kept.items():
            if (storage / name).read_bytes() != content:
                files.replace(storage / name, content)
        for path in new_keys:
            path.unlink(missing_ok=True)
        raise
