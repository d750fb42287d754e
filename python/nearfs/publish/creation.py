"""Making and removing a repository on this machine (server.md 3.1 and 3.16).

Owns: the order of `mkfs` and what each step leaves, and `rmfs`. Does not own: the texts between the steps' words.
A kill in the middle leaves a partial state that `rmfs` removes, as with the reference tools.
Threading: one command at a time; root only.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import pwd
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import files, hashes, keys, signing, whitelist
from nearfs.config import names
from nearfs.errors import Busy, InvalidInput, NearfsError, NotFound, PermissionDenied, Unsupported
from nearfs.publish import (
    acting,
    fuse_union,
    healing,
    mounttable,
    overlay,
    ownership,
    revision,
    server_files,
    transaction,
)
from nearfs.publish.repository import ANY_ROLE, REPLICABLE, WHITELIST, Repository
from nearfs.web_server import installed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from nearfs.publish.places import Places

    # Brackets a part of the work with its words.
    Step = Callable[..., AbstractContextManager[None]]

_REPLICABLE_TEXT = "This file marks the repository as replicatable to stratum 1 servers\n"
# Shown in the manifest before the first publish sets the property.
_INITIAL_TTL_S = 240


@dataclass(frozen=True)
class NewRepository:
    """What `cvmfs_server mkfs` was asked for."""

    fqrn: str
    owner: str
    stratum0_url: str = ""
    hash_algorithm: str = "sha1"
    compression: str = "default"
    auto_tag: bool = True
    auto_tag_timespan: str = ""
    garbage_collectable: bool = False
    volatile: bool = False
    configure_apache: bool = True
    import_keys_from: str = ""
    membership: str = ""
    external: bool = False
    proxy: str = ""
    storage: str = ""


def check(wanted: NewRepository, places: Places) -> None:
    """Refuses, before anything is written, what cannot become a repository here."""
    names.check_fqrn(wanted.fqrn)
    if (places.repositories / wanted.fqrn).exists():
        raise _refused(InvalidInput, f"The repository {wanted.fqrn} already exists", wanted)
    if os.geteuid() != 0:
        raise _refused(PermissionDenied, "Only root can create a new repository", wanted)
    if not os.path.exists("/dev/fuse"):
        raise _refused(
            Unsupported, "/dev/fuse is missing: load the fuse module, or start the container with it", wanted
        )
    if overlay.mounted_at(places.union(wanted.fqrn).parent):
        raise _refused(Busy, "Autofs on /cvmfs has to be disabled", wanted)
    if wanted.configure_apache and not installed.installed(places.prefix):
        message = "Apache must be installed and running (or nginx; or use -p, and serve the storage with: nearfs serve)"
        raise _refused(InvalidInput, message, wanted)
    try:
        owner = pwd.getpwnam(wanted.owner)
    except KeyError:
        raise _refused(InvalidInput, f"No user {wanted.owner}", wanted) from None
    _check_choices(wanted)
    if owner.pw_uid != 0:
        fuse_union.check_programs(wanted.fqrn)
        return
    with open("/proc/filesystems", encoding="ascii") as listed:
        if "overlay" not in listed.read().split():
            raise _refused(Unsupported, "neither OverlayFS nor AUFS detected on the system!", wanted)


def _check_choices(wanted: NewRepository) -> None:
    if wanted.auto_tag_timespan:
        _expiry(wanted)
    if wanted.import_keys_from:
        keys.check_key_files(keys.KeyFiles.of(wanted.fqrn, wanted.import_keys_from))
    if wanted.hash_algorithm not in set(hashes.HashAlgorithm):
        raise _refused(
            InvalidInput, f"hash algorithm '{wanted.hash_algorithm}' is not sha1, rmd160 or shake128", wanted
        )
    if wanted.compression not in ("default", "zlib", "none"):
        raise _refused(InvalidInput, f"compression '{wanted.compression}' is not default or none", wanted)


def _expiry(wanted: NewRepository) -> str:
    """Returns the moment that the expiry of automatic tags means today, as `date` says it."""
    try:
        done = subprocess.run(
            ["date", "-d", wanted.auto_tag_timespan], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _refused(InvalidInput, f"Auto tags time span cannot be parsed: date: {error}", wanted) from error
    if done.returncode:
        raise _refused(InvalidInput, f"Auto tags time span cannot be parsed: '{wanted.auto_tag_timespan}'", wanted)
    return done.stdout.strip()


def _refused(kind: type[NearfsError], message: str, wanted: NewRepository) -> NearfsError:
    return kind(message, operation="mkfs", subject=wanted.fqrn, exit_code=1)


def create(wanted: NewRepository, places: Places, step: Step) -> Repository:
    """Makes a repository with its first revision, and mounts it; `step` brackets each part with its words."""
    check(wanted, places)
    now = dt.datetime.now(dt.UTC)
    with step("Creating Configuration Files"):
        server_files.write_configuration(wanted, places)
        repository = Repository.load(wanted.fqrn, places)
    entry = pwd.getpwnam(wanted.owner)
    owner = keys.Owner(entry.pw_uid, entry.pw_gid)
    with _key_step(wanted, step):
        places.keys.mkdir(parents=True, exist_ok=True)
        if wanted.import_keys_from:
            key_files = keys.import_keys(wanted.fqrn, wanted.import_keys_from, places.keys, owner=owner)
        else:
            key_files = keys.create_keys(wanted.fqrn, places.keys, now=now, owner=owner)
    with step("Creating CernVM-FS Server Infrastructure"):
        overlay.make_directories(repository)
        (repository.spool / "tmp").mkdir(exist_ok=True)
        (repository.spool / "cache").mkdir(exist_ok=True)
        mounttable.add(repository)
        if wanted.configure_apache:
            configure_web_server(repository)
    with step("Creating Backend Storage"):
        _create_storage(repository)
    with step("Signing 30 day whitelist with master key"):
        sign_whitelist(repository, key_files, now)
    if wanted.configure_apache:
        await_web_server(repository)  # before the mount, which reads the storage through it
    note = "(repository flagged volatile)... " if wanted.volatile else ""
    if wanted.membership:
        note += f"(repository will be accessible with VOMS credentials {wanted.membership})... "
    with step("Creating Initial Repository", note):
        _create_first_revision(wanted, repository, owner)
    give_to_owner(repository, owner)
    with step("Mounting CernVM-FS Storage", "(overlayfs) "):
        mount(repository)
    with step("Allowing Replication of this Repository"):
        set_replicable(repository, replicable=True)
    if not wanted.membership:
        with step("Initial commit", "" if wanted.external else _greeting(repository)):
            acting.as_owner(repository, lambda: _initial_commit(repository))
    with step("Updating global JSON information"):
        server_files.write_repositories_json(places)
    return repository


def _key_step(wanted: NewRepository, step: Step) -> AbstractContextManager[None]:
    if wanted.import_keys_from:
        return step(f"Importing CernVM-FS Master Key and Certificate from '{wanted.import_keys_from}'")
    return step("Creating CernVM-FS Master Key and Self-Signed Certificate")


def configure_web_server(repository: Repository) -> None:
    """Puts the web servers of this machine in front of the storage."""
    installed.write(repository.places.prefix, repository.name, repository.storage, repository.places.info.parent)


def await_web_server(repository: Repository, file: str = WHITELIST) -> None:
    """Waits until a web server of this machine serves the storage, in which that file is by now."""
    if not repository.places.prefix:
        installed.wait_until_served(f"http://localhost/cvmfs/{repository.name}/{file}")


def _create_storage(repository: Repository) -> None:
    from nearfs import _native

    repository.storage.mkdir(parents=True, exist_ok=True)
    _native.create_storage(str(repository.storage))


def sign_whitelist(repository: Repository, key_files: keys.KeyFiles, now: dt.datetime) -> None:
    """Puts a whitelist of 30 days for the repository's certificate in place."""
    from nearfs import _native

    algorithm = repository.hash_algorithm
    der = keys.certificate_der(keys.load_certificate(key_files.certificate))
    fingerprint = whitelist.Fingerprint(signing.certificate_fingerprint(der, algorithm))
    master = keys.load_private_key(key_files.master)
    signed = whitelist.sign_whitelist(repository.fqrn, [fingerprint], master, now, hash_algorithm=algorithm)
    _native.write_named(str(repository.storage), WHITELIST, signed)


def _create_first_revision(wanted: NewRepository, repository: Repository, owner: keys.Owner) -> None:
    from nearfs import _native

    storage = str(repository.storage)
    committed = _native.create_repository(
        storage,
        fqrn=wanted.fqrn,
        hash_algorithm=wanted.hash_algorithm,
        uid=owner.uid,
        gid=owner.gid,
        now_s=int(time.time()),
        volatile=wanted.volatile,
        voms_authz=wanted.membership or None,
    )
    metainfo = _native.put_object(
        storage, server_files.metainfo_skeleton(), suffix="M", hash_algorithm=wanted.hash_algorithm
    )
    revision.activate(
        repository,
        revision.Head(committed["root_hash"], committed["root_size"], committed["revision"], _INITIAL_TTL_S),
        history=None,
        metainfo=metainfo,
        garbage_collectable=wanted.garbage_collectable,
    )
    files.remove(revision.note_path(repository))


def set_replicable(repository: Repository, *, replicable: bool) -> None:
    """Makes or removes the file whose presence permits replicas; root only."""
    if os.geteuid() != 0:
        message = "Only root can alter a repository"
        raise PermissionDenied(message, operation="alterfs", subject=repository.fqrn, exit_code=1)
    if replicable:
        files.replace(repository.storage / REPLICABLE, _REPLICABLE_TEXT)
        ownership.give_path(repository, repository.storage / REPLICABLE)
    else:
        files.remove(repository.storage / REPLICABLE)


def _greeting(repository: Repository) -> str:
    return f"New CernVM-FS repository for {repository.fqrn}\n"


def mount(repository: Repository) -> None:
    """Mounts the newest revision, as its owner."""
    acting.as_owner(repository, lambda: len(healing.heal(repository)))


def _initial_commit(repository: Repository) -> int:
    transaction.begin(repository)
    (repository.union / "new_repository").write_text(_greeting(repository), encoding="ascii")
    # The greeting has no external server that it could come from.
    transaction.publish(repository, transaction.PublishOptions(external=False))
    return 0


def give_to_owner(repository: Repository, owner: keys.Owner) -> None:
    """Makes storage, spool area and mount point the owner's; nothing is mounted yet. A replica has no mount point."""
    if owner.uid == 0:
        return
    if not repository.is_replica:
        os.chown(repository.union, owner.uid, owner.gid)
    for top in (repository.storage, repository.spool):
        for directory, links_among, names_here in os.walk(top):
            os.chown(directory, owner.uid, owner.gid)
            # A link to a directory counts as one, and is not entered.
            for name in links_among + names_here:
                os.chown(os.path.join(directory, name), owner.uid, owner.gid, follow_symlinks=False)


def remove(name: str, places: Places, *, keep_content: bool, step: Step) -> None:
    """Removes a repository, also one whose creation was interrupted; storage and keys stay with `keep_content`."""
    names.check_name(name)
    if os.geteuid() != 0:
        raise PermissionDenied("Only root can remove a repository", operation="rmfs", subject=name, exit_code=1)
    if not (places.repositories / name).is_dir():
        message = f"The repository {name} does not exist."
        raise NotFound(message, operation="rmfs", subject=name, exit_code=1)
    try:
        repository = Repository.load(name, places, roles=ANY_ROLE)
    except NotFound:  # mkfs was killed before it wrote server.conf
        repository = Repository(name, places, server_files.default_settings(name, places))
    with step("Unmounting CernVM-FS Area"):
        overlay.unmount_all(repository)
    with step("Removing Spool Area"):
        _remove_tree(repository.spool)
        with contextlib.suppress(OSError):
            repository.union.rmdir()
    with step("Removing Configuration"):
        mounttable.remove(repository)
        others = [other for other in Repository.all_names(places) if other != name]
        installed.remove(places.prefix, name, is_last=not others)
        _remove_tree(repository.configuration)
    if not keep_content:
        with step("Removing Repository Storage"):
            _remove_tree(repository.storage)
    if not keep_content and not repository.is_replica:
        with step("Removing Keys and Certificate"):
            for suffix in ("masterkey", "pub", "key", "crt", "gw"):
                (places.keys / f"{name}.{suffix}").unlink(missing_ok=True)
    with step("Updating global JSON information"):
        server_files.write_repositories_json(places)


def _remove_tree(path: Path) -> None:
    if overlay.mounted_at(path):
        overlay.unmount(path)
    # rm as a process: the removal of a large storage should not depend on one Python loop, and it crosses no mounts.
    if path.exists():
        done = subprocess.run(
            ["rm", "-rf", "--one-file-system", "--", str(path)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            message = f"failed to remove {path}: {done.stderr.strip()}"
            raise PermissionDenied(message, operation="rmfs", subject=str(path), exit_code=1)
