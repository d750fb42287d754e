"""How a client reaches its hosts: proxies, time-outs, repetitions (client.md 3).

Owns: reading those parameters. Does not own: what is done with them (the engine's transport). Pure functions.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nearfs.config import values
from nearfs.errors import InitCode, InvalidInput

if TYPE_CHECKING:
    from nearfs.config.layers import Settings
    from nearfs.records import Network

_MAX_SECONDS = 10 * 365 * 86_400
_DISCOVER = "auto"


def read(settings: Settings) -> Network:
    """Returns the checked parameters; raises `InvalidInput` that names parameter, value and file."""

    def seconds(name: str, default: int, least: int = 0) -> int:
        return values.integer(settings, name, default, least, _MAX_SECONDS)

    return {
        "proxies": _proxies(settings),
        "fallback_proxies": settings.get("CVMFS_FALLBACK_PROXY") or "",
        "timeout_s": seconds("CVMFS_TIMEOUT", 5, 1),
        "timeout_direct_s": seconds("CVMFS_TIMEOUT_DIRECT", 5, 1),
        "max_retries": values.integer(settings, "CVMFS_MAX_RETRIES", 1, 0, 1000),
        "backoff_init_s": seconds("CVMFS_BACKOFF_INIT", 2),
        "backoff_max_s": seconds("CVMFS_BACKOFF_MAX", 10),
        "proxy_reset_after_s": seconds("CVMFS_PROXY_RESET_AFTER", 0),
        "host_reset_after_s": seconds("CVMFS_HOST_RESET_AFTER", 0),
        "low_speed_limit": values.integer(settings, "CVMFS_LOW_SPEED_LIMIT", 1024, 0, 1 << 40),
        "follow_redirects": settings.is_on("CVMFS_FOLLOW_REDIRECTS"),
    }


def _proxies(settings: Settings) -> str:
    name = "CVMFS_HTTP_PROXY"
    proxies = (settings.get(name) or "").strip()
    if not proxies:
        message = f"{name} required (DIRECT where there is no proxy)"
        raise InvalidInput(message, operation="read configuration", subject=name, exit_code=InitCode.OPTIONS)
    groups = [[member.strip() for member in group.split("|")] for group in proxies.split(";")]
    if any(_DISCOVER in group for group in groups):
        found = os.environ.get("http_proxy")
        if not found:
            message = f"{name}={proxies}: proxies cannot be discovered in this version (set http_proxy, or name them)"
            code = InitCode.PROXY_DISCOVERY
            raise InvalidInput(message, operation="read configuration", subject=name, exit_code=code)
        groups = [[found if member == _DISCOVER else member for member in group] for group in groups]
    return ";".join("|".join(group) for group in groups)
