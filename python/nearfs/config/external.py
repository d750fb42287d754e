"""Where external data comes from: hosts, proxies, time-outs (client.md 1.4, `CVMFS_EXTERNAL_*`).

Owns: reading those parameters. Does not own: what is done with them (the engine's transport). Pure functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.config import values

if TYPE_CHECKING:
    from nearfs.config.layers import Settings
    from nearfs.records import External

_SCHEMES = ("http://", "https://", "file://")
_DIRECT = "DIRECT"
_MAX_SECONDS = 10 * 365 * 86_400
_MAX_COUNT = 1 << 20


def read(settings: Settings, timeout_s: int, timeout_direct_s: int) -> External:
    """Returns the checked parameters; raises `InvalidInput` that names parameter, value and file.

    The time-outs, in seconds, are those of the repository's own hosts: they hold where nothing else is said.
    """

    def seconds(name: str, default: int) -> int:
        return values.integer(settings, name, default, 1, _MAX_SECONDS)

    return {
        "server_urls": list(_server_urls(settings)),
        "proxies": (settings.get("CVMFS_EXTERNAL_HTTP_PROXY") or "").strip() or _DIRECT,
        "fallback_proxies": settings.get("CVMFS_EXTERNAL_FALLBACK_PROXY") or "",
        "timeout_s": seconds("CVMFS_EXTERNAL_TIMEOUT", timeout_s),
        "timeout_direct_s": seconds("CVMFS_EXTERNAL_TIMEOUT_DIRECT", timeout_direct_s),
        "max_hosts": values.integer(settings, "CVMFS_EXTERNAL_MAX_SERVERS", 0, 0, _MAX_COUNT),
    }


def _server_urls(settings: Settings) -> tuple[str, ...]:
    name = "CVMFS_EXTERNAL_URL"
    urls = tuple(url.rstrip("/") for url in values.split(settings, name, ";"))
    for url in urls:
        if not url.startswith(_SCHEMES):
            raise values.refusal(settings, name, f"{url} does not begin with http://, https:// or file://")
    return urls
