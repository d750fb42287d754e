"""Making a replica on this machine (server.md 3.2).

Owns: the order of `add-replica`, its refusals, `server.conf` and `replica.conf`. Does not own: what is brought over
(`pulling`), the web server's texts. A kill in the middle leaves a partial state that `rmfs` removes.
Threading: one command at a time; root only.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import files, keys, signing
from nearfs.config import names
from nearfs.errors import InvalidInput, NearfsError, NotFound, PermissionDenied
from nearfs.publish import creation, server_files
from nearfs.publish.repository import LAYOUT_REVISION, MANIFEST, REPLICABLE, REPLICAS, Repository
from nearfs.replica import source
from nearfs.web_server import installed

if TYPE_CHECKING:
    from nearfs.publish.creation import Step
    from nearfs.publish.places import Places

PROBE = ".cvmfsempty"
_MANIFEST_LIMIT_BYTES = 64 << 10
_CREATED = "# Created by cvmfs_server.\n"


@dataclass(frozen=True)
class NewReplica:
    """What `cvmfs_server add-replica` was asked for."""

    url: str
    owner: str
    keys: str = ""
    """Public keys, with colons, or a directory of them."""
    alias: str = ""
    replica_url: str = ""
    storage: str = ""
    group: str = ""
    collects: bool = False
    pass_through: bool = False
    configure_apache: bool = True
    proxy: str = ""


def create(wanted: NewReplica, places: Places, step: Step) -> Repository:
    """Makes an empty replica; `step` brackets each part with its words."""
    if os.geteuid() != 0:
        raise _refused(PermissionDenied, "Only root can create a new repository", wanted)
    _check_choices(wanted, places)
    fqrn = _name_of_source(wanted)
    name = wanted.alias or fqrn
    _check_free(name, places, wanted)
    with step("Creating Configuration Files"):
        _write_configuration(wanted, fqrn, name, places)
        replica = Repository.load(name, places, roles=REPLICAS)
    if not wanted.pass_through:
        with step("Create CernVM-FS Storage"):
            _create_storage(replica)
    if wanted.configure_apache:
        with step("Update Apache configuration"):
            _configure_web_server(replica, wanted)
    if not wanted.pass_through:
        files.remove(replica.storage / PROBE)
    with step("Creating CernVM-FS Server Infrastructure"):
        _create_spool(replica)
        entry = pwd.getpwnam(wanted.owner)
        creation.give_to_owner(replica, keys.Owner(entry.pw_uid, entry.pw_gid))
    with step("Updating global JSON information"):
        server_files.write_repositories_json(places)
    return replica


def _configure_web_server(replica: Repository, wanted: NewReplica) -> None:
    """Lets the web servers of this machine serve the storage, or pass requests on, and waits until they do."""
    if wanted.pass_through:
        installed.write(replica.places.prefix, replica.name, wanted.url, replica.places.info.parent)
        creation.await_web_server(replica, MANIFEST)
    else:
        creation.configure_web_server(replica)
        creation.await_web_server(replica, PROBE)


def _refused(kind: type[NearfsError], message: str, wanted: NewReplica) -> NearfsError:
    return kind(message, operation="add-replica", subject=wanted.url, exit_code=1)


def _check_choices(wanted: NewReplica, places: Places) -> None:
    if wanted.pass_through and wanted.storage:
        message = "Pass-through repository and non-default upstream storage are mutually exclusive"
        raise _refused(InvalidInput, message, wanted)
    if wanted.pass_through and wanted.collects:
        message = "Pass-through repository and garbage collection are mutually exclusive"
        raise _refused(InvalidInput, message, wanted)
    if not wanted.pass_through:
        source.public_keys(wanted.keys)
    if wanted.alias:
        names.check_name(wanted.alias)
    try:
        pwd.getpwnam(wanted.owner)
    except KeyError:
        raise _refused(InvalidInput, f"No user {wanted.owner}", wanted) from None
    if wanted.configure_apache and not installed.installed(places.prefix):
        message = "Apache must be installed and running (or nginx; or use -p, and serve the storage with: nearfs serve)"
        raise _refused(InvalidInput, message, wanted)


def _name_of_source(wanted: NewReplica) -> str:
    """Returns the name that the source's manifest has; nobody vouches for it before the first snapshot."""
    asked = source.opened(wanted.url, "unknown.source", {"CVMFS_SERVER_PROXY": wanted.proxy})
    try:
        manifest = signing.parse_manifest(asked.fetch(MANIFEST, _MANIFEST_LIMIT_BYTES))
    except NearfsError as error:
        raise source.failed(error, f"Failed to access Stratum0 repository at {wanted.url}", wanted.url) from error
    fqrn = manifest.fields.name or ""
    names.check_fqrn(fqrn)
    if not wanted.pass_through:
        try:
            asked.fetch(REPLICABLE, _MANIFEST_LIMIT_BYTES)
        except NotFound:
            message = f"The repository URL {wanted.url} does not point to a replicable master copy of {fqrn}"
            raise _refused(InvalidInput, message, wanted) from None
    return fqrn


def _check_free(name: str, places: Places, wanted: NewReplica) -> None:
    directory = places.repositories / name
    if (directory / "replica.conf").exists():
        raise _refused(InvalidInput, f"There is already a Stratum1 repository {name}", wanted)
    if directory.exists():
        message = (
            f"Repository {name} already exists as a Stratum0 repository.\n"
            "Use -n to create a Stratum1 replica under another name"
        )
        raise _refused(InvalidInput, message, wanted)


def _write_configuration(wanted: NewReplica, fqrn: str, name: str, places: Places) -> None:
    """Writes `replica.conf`, then `server.conf`, whose existence makes the replica known."""
    storage = wanted.storage or str(places.storage(name))
    server = {
        "CVMFS_CREATOR_VERSION": LAYOUT_REVISION,
        "CVMFS_REPOSITORY_NAME": fqrn,
        "CVMFS_REPOSITORY_TYPE": "stratum1",
        "CVMFS_USER": wanted.owner,
        "CVMFS_SPOOL_DIR": str(places.spool(name)),
        "CVMFS_STRATUM0": wanted.url.rstrip("/"),
        "CVMFS_STRATUM1": wanted.replica_url or f"http://localhost/cvmfs/{name}",
        "CVMFS_UPSTREAM_STORAGE": f"local,{storage}/data/txn,{storage}",
        "CVMFS_SNAPSHOT_GROUP": wanted.group,
    }
    if wanted.collects:
        server["CVMFS_AUTO_GC"] = "true"
    if wanted.proxy:
        server["CVMFS_SERVER_PROXY"] = wanted.proxy
    replica = {
        "CVMFS_NUM_WORKERS": str(source.DEFAULT_WORKERS),
        "CVMFS_PUBLIC_KEY": source.default_keys(wanted.keys),
        "CVMFS_HTTP_TIMEOUT": str(source.DEFAULT_TIMEOUT_S),
        "CVMFS_HTTP_RETRIES": str(source.DEFAULT_RETRIES),
    }
    if wanted.pass_through:
        replica = {"CVMFS_PASSTHROUGH": "true"}
    directory = places.repositories / name
    directory.mkdir(parents=True, exist_ok=True)
    files.replace(directory / "replica.conf", _CREATED + server_files.assignments(replica))
    files.replace(directory / "server.conf", _CREATED + server_files.assignments(server))


def _create_storage(replica: Repository) -> None:
    from nearfs import _native

    replica.storage.mkdir(parents=True, exist_ok=True)
    _native.create_storage(str(replica.storage))
    files.replace(replica.storage / PROBE, "")


def _create_spool(replica: Repository) -> None:
    replica.spool.mkdir(parents=True, exist_ok=True)
    temporary = replica.spool / "tmp"
    if not temporary.is_symlink():
        temporary.symlink_to(replica.storage / "data" / "txn")
