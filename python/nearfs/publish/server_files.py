"""The files that describe a repository to people, and to the tools (server.md 2.1, 8.2).

Owns: the content of `server.conf`, `client.conf`, `repositories.json`, the metainfo skeleton.
Threading: root's commands, one at a time; every file is replaced as a whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.config import syntax
from nearfs.errors import NearfsError
from nearfs.publish.repository import ANY_ROLE, LAYOUT_REVISION, Repository

if TYPE_CHECKING:
    from nearfs.publish.creation import NewRepository
    from nearfs.publish.places import Places

# The release whose files and formats these are.
_CVMFS_VERSION = "2.12.0"


def default_settings(fqrn: str, places: Places, wanted: NewRepository | None = None) -> dict[str, str]:
    """Returns the assignments of `server.conf`, in their order."""
    storage = (wanted.storage if wanted else "") or str(places.storage(fqrn))
    url = f"http://localhost/cvmfs/{fqrn}"
    if wanted is not None and not wanted.configure_apache:
        # No web server was promised: the publisher itself reads its storage as files.
        url = f"file://{storage}"
    if wanted is not None and wanted.stratum0_url:
        url = wanted.stratum0_url
    settings = {
        "CVMFS_CREATOR_VERSION": LAYOUT_REVISION,
        "CVMFS_REPOSITORY_NAME": fqrn,
        "CVMFS_REPOSITORY_TYPE": "stratum0",
        "CVMFS_USER": wanted.owner if wanted else "root",
        "CVMFS_UNION_DIR": str(places.union(fqrn)),
        "CVMFS_SPOOL_DIR": str(places.spool(fqrn)),
        "CVMFS_STRATUM0": url,
        "CVMFS_UPSTREAM_STORAGE": f"local,{storage}/data/txn,{storage}",
        "CVMFS_USE_FILE_CHUNKING": "true",
        "CVMFS_MIN_CHUNK_SIZE": "4194304",
        "CVMFS_AVG_CHUNK_SIZE": "8388608",
        "CVMFS_MAX_CHUNK_SIZE": "16777216",
        "CVMFS_UNION_FS_TYPE": "overlayfs",
        "CVMFS_HASH_ALGORITHM": wanted.hash_algorithm if wanted else "sha1",
        "CVMFS_COMPRESSION_ALGORITHM": wanted.compression if wanted else "default",
        "CVMFS_EXTERNAL_DATA": "true" if wanted and wanted.external else "false",
        "CVMFS_AUTO_TAG": "false" if wanted and not wanted.auto_tag else "true",
        "CVMFS_AUTO_TAG_TIMESPAN": wanted.auto_tag_timespan if wanted else "",
        "CVMFS_GARBAGE_COLLECTION": "true" if wanted and wanted.garbage_collectable else "false",
        "CVMFS_AUTO_REPAIR_MOUNTPOINT": "true",
        "CVMFS_AUTOCATALOGS": "false",
        "CVMFS_ASYNC_SCRATCH_CLEANUP": "true",
        "CVMFS_PRINT_STATISTICS": "false",
        "CVMFS_UPLOAD_STATS_DB": "false",
        "CVMFS_UPLOAD_STATS_PLOTS": "false",
        "CVMFS_IGNORE_XDIR_HARDLINKS": "true",
    }
    if wanted and wanted.garbage_collectable:
        settings["CVMFS_AUTO_GC"] = "true"
    if wanted and wanted.membership:
        settings["CVMFS_VOMS_AUTHZ"] = wanted.membership
        settings["CVMFS_CATALOG_ALT_PATHS"] = "true"
    if wanted and wanted.proxy:
        settings["CVMFS_SERVER_PROXY"] = wanted.proxy
    return settings


def _client_settings(fqrn: str, places: Places, stratum0: str, wanted: NewRepository) -> dict[str, str]:
    spool = places.spool(fqrn)
    settings = {
        "CVMFS_CACHE_BASE": f"{spool}/cache",
        "CVMFS_RELOAD_SOCKETS": f"{spool}/cache",
        "CVMFS_QUOTA_LIMIT": "4000",
        "CVMFS_MOUNT_DIR": str(places.union(fqrn).parent),
        "CVMFS_SERVER_URL": stratum0,
        "CVMFS_HTTP_PROXY": wanted.proxy or "DIRECT",
        "CVMFS_PUBLIC_KEY": str(places.keys / f"{fqrn}.pub"),
        "CVMFS_CHECK_PERMISSIONS": "yes",
        "CVMFS_IGNORE_SIGNATURE": "no",
        "CVMFS_AUTO_UPDATE": "no",
        "CVMFS_NFS_SOURCE": "no",
        "CVMFS_MAGIC_XATTRS_VISIBILITY": "never",
        "CVMFS_FOLLOW_REDIRECTS": "yes",
        "CVMFS_SERVER_CACHE_MODE": "yes",
        "CVMFS_NFILES": "65536",
        "CVMFS_TALK_SOCKET": f"{spool}/cvmfs_io",
        "CVMFS_TALK_OWNER": wanted.owner,
        "CVMFS_USE_SSL_SYSTEM_CA": "true",
    }
    if bundle := os.environ.get("X509_CERT_BUNDLE"):
        settings["X509_CERT_BUNDLE"] = bundle
    return settings


def write_configuration(wanted: NewRepository, places: Places) -> None:
    """Writes `client.conf`, then `server.conf`, whose existence makes the repository known."""
    directory = places.repositories / wanted.fqrn
    directory.mkdir(parents=True, exist_ok=True)
    server = default_settings(wanted.fqrn, places, wanted)
    client = _client_settings(wanted.fqrn, places, server["CVMFS_STRATUM0"], wanted)
    files.replace(directory / "client.conf", "# Created by cvmfs_server.  Don't touch.\n" + assignments(client))
    files.replace(directory / "server.conf", "# Created by cvmfs_server.\n" + assignments(server))


def assignments(settings: dict[str, str]) -> str:
    """Returns the lines of a file that `sh` can source."""
    # The files are shell: a blank, a quote or a `$` of a value must stay a part of it.
    quoted = {key: shlex.quote(value) if value else '""' for key, value in settings.items()}
    return "".join(f"{key}={value}\n" for key, value in quoted.items())


def write_repositories_json(places: Places) -> None:
    """Writes the list of this machine's repositories and replicas for clients of the web server."""
    repositories: list[dict[str, object]] = []
    replicas: list[dict[str, object]] = []
    for name in Repository.all_names(places):
        entry: dict[str, object] = {"name": name, "url": f"/cvmfs/{name}"}
        try:
            found = Repository.load(name, places, roles=ANY_ROLE)
        except NearfsError:
            # One that needs an administrator stays listed as what it was: a master, unless it has a replica's file.
            (replicas if (places.repositories / name / "replica.conf").exists() else repositories).append(entry)
            continue
        if found.is_replica:
            more: dict[str, object] = {"alias": found.alias} if found.alias else {}
            more |= {"pass-through": True} if found.is_on("CVMFS_PASSTHROUGH") else {}
            replicas.append({**entry, "name": found.fqrn, **more})
        else:
            repositories.append(entry)
    document = {"schema": 1, **_versions(places), "repositories": repositories, "replicas": replicas}
    places.info.mkdir(parents=True, exist_ok=True)
    files.replace(places.info / "repositories.json", json.dumps(document, indent=2) + "\n")


def _versions(places: Places) -> dict[str, str]:
    """Returns the versions of this software and of the system, unless the site keeps them to itself."""
    site = places.configuration / "server.local"
    parsed = syntax.parse_shell(str(site), dict(os.environ)) if site.is_file() else None
    wanted = dict(parsed.values).get("CVMFS_PUBLISH_VERSIONS_IN_META_FILE", "true") if parsed else "true"
    if wanted.lower() not in ("yes", "on", "1", "true"):
        return {}
    versions = {"cvmfs_version": _CVMFS_VERSION}
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release()
        keys = (("os_id", "ID"), ("os_version_id", "VERSION_ID"), ("os_pretty_name", "PRETTY_NAME"))
        versions |= {name: system[key] for name, key in keys if key in system}
    return versions


def metainfo_skeleton() -> bytes:
    """Returns the metainfo of a new repository: the fields that a publisher may fill in."""
    skeleton = {
        "administrator": "Your Name",
        "email": "you@organisation.org",
        "organisation": "Your Organisation",
        "description": "Repository content",
        "recommended-stratum0": "stratum 0 url",
        "recommended-stratum1s": ["stratum1 url", "stratum1 url"],
        "custom": {},
    }
    return (json.dumps(skeleton, indent=2) + "\n").encode()
