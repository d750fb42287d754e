"""Owns where replicas of this machine come from: `server.conf` of the reference's layout (server.md 2.1).

The files are read as plain assignments: a server that faces the network starts no shell. Called once, at the start.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from nearfs.config import syntax
from nearfs.errors import InvalidInput
from nearfs.serve import names

_PREFIX_VARIABLE = "NEARFS_PREFIX"


def default_directory() -> Path:
    """Returns where the settings of repositories lie on this machine."""
    return Path(os.environ.get(_PREFIX_VARIABLE, "").rstrip("/") + "/etc/cvmfs/repositories.d")


def configured(directory: Path) -> dict[str, str]:
    """Returns the stratum 0 URLs of the replicas that are set up here, by the name under which they are served."""
    try:
        found = sorted(os.listdir(directory))[: names.REPOSITORIES_LIMIT]
    except OSError:
        return {}
    urls: dict[str, str] = {}
    for name in found:
        try:
            parsed = syntax.parse_simple(str(directory / name / "server.conf"))
        except (OSError, InvalidInput):
            continue
        values = {} if parsed is None else parsed.values
        url = values.get("CVMFS_STRATUM0", "")
        if values.get("CVMFS_REPOSITORY_TYPE") == "stratum1" and is_usable(url):
            urls[name] = url.rstrip("/")
    return urls


def given(pairs: Iterable[str]) -> dict[str, str]:
    """Returns the URLs of `FQRN=URL` texts of the command line. Raises InvalidInput."""
    urls: dict[str, str] = {}
    for pair in pairs:
        name, _, url = pair.partition("=")
        if not (names.is_repository_name(name) and is_usable(url)):
            raise InvalidInput(f"--stratum0 {pair!r} is not of the form FQRN=http://HOST/cvmfs/FQRN")
        urls[name] = url.rstrip("/")
    return urls


def is_usable(url: str) -> bool:
    """Tells whether a URL is one that may be asked: of a host, over HTTP."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:
        return False
