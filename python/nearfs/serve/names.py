"""Owns which URL paths are served, and what each one is; touches no file system.

Only names that a repository can have are served (format.md 1.1, 8.1 and 8.2), so a path that tries to leave a
repository is not repaired or normalised: it is no such name. Pure functions: any thread.
"""

import re
from dataclasses import dataclass

# format.md 8.7: caches ask again for what changes after a minute, and keep content addressed objects for days.
MUTABLE_SECONDS = 61
OBJECT_SECONDS = 3 * 24 * 60 * 60

# So many repositories are listed and counted one by one; all are served.
REPOSITORIES_LIMIT = 1000

# The longest served path is about 330 bytes; anything far above is not worth matching.
PATH_LIMIT_BYTES = 1024

_REPOSITORY = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?"
_HASH_TAG = r"(?:-rmd160|-shake128)?"
# Every suffix letter of format.md 1.2 but T, which is never published.
_SUFFIX = r"[CHLMPX]?"
_OBJECT = rf"data/[0-9a-f]{{2}}/[0-9a-f]{{38}}{_HASH_TAG}{_SUFFIX}"
_MARKER = (
    r"\.cvmfs(?:published|whitelist|whitelist\.pkcs7|reflog|empty"
    r"|_master_replica|_last_snapshot|_is_snapshotting|_status\.json"
    rf"|alt-[0-9a-f]{{40}}{_HASH_TAG}{_SUFFIX})"
)
_SITE_JSON = r"v1/(?:repositories|meta)\.json"

_SERVED = re.compile(
    rf"/cvmfs/(?:info/(?P<site>{_SITE_JSON})"
    rf"|(?P<repository>{_REPOSITORY})/(?:(?P<object>{_OBJECT})|(?P<marker>{_MARKER})))",
    re.ASCII,
)
# What a request is counted as: by the suffix of an object (format.md 1.2), or the name of a marker.
_OBJECT_KINDS = {
    "C": "catalog",
    "H": "history",
    "L": "micro-catalog",
    "M": "meta-info",
    "P": "chunk",
    "X": "certificate",
}
_MARKER_KINDS = {".cvmfspublished": "manifest", ".cvmfswhitelist": "whitelist", ".cvmfswhitelist.pkcs7": "whitelist"}
_REPOSITORY_NAME = re.compile(_REPOSITORY, re.ASCII)

# "info" would hide the site-wide JSON files.
_RESERVED_NAMES = frozenset({"info"})


@dataclass(frozen=True, slots=True)
class ServedName:
    """One name that may be served. `repository` is None for site-wide JSON; `path` is then relative to `info`."""

    repository: str | None
    path: str
    content_type: bytes
    max_age_seconds: int
    kind: str


def is_repository_name(name: str) -> bool:
    """Returns whether `name` can be a repository's fully qualified name in a URL and as a directory name."""
    return _REPOSITORY_NAME.fullmatch(name) is not None and name not in _RESERVED_NAMES


def parse(path: str) -> ServedName | None:
    """Returns what the percent-decoded URL path `path` names, or None when a repository has no such name."""
    if len(path) > PATH_LIMIT_BYTES:
        return None
    match = _SERVED.fullmatch(path)
    if match is None:
        return None
    site, repository, stored_object, marker = match.groups()
    if site is not None:
        return ServedName(None, site, b"application/json", MUTABLE_SECONDS, "information")
    if repository in _RESERVED_NAMES:
        return None
    if stored_object is not None:
        kind = _OBJECT_KINDS.get(stored_object[-1], "file")
        return ServedName(repository, stored_object, b"application/octet-stream", OBJECT_SECONDS, kind)
    return marker_of(repository, marker)


def marker_of(repository: str, marker: str) -> ServedName:
    """Returns the name of one of a repository's files beside its objects, such as `.cvmfspublished`."""
    kind = _MARKER_KINDS.get(marker, "marker")
    return ServedName(repository, marker, b"application/x-cvmfs", MUTABLE_SECONDS, kind)
