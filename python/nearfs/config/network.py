"""How a client reaches its hosts: proxies, time-outs, repetitions (client.md 3).

Owns: reading those parameters. Does not own: what is done with them (the engine's transport). Pure functions.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from typing import TYPE_CHECKING

from nearfs.config import external, values
from nearfs.errors import InitCode, InvalidInput

if TYPE_CHECKING:
    from nearfs.config.layers import Settings
    from nearfs.records import Network

_MAX_SECONDS = 10 * 365 * 86_400
_DISCOVER = "auto"
_DNS_PORT = 53
_SERVER = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:]+)\]|(?P<v4>[0-9.]+))(?::(?P<port>[0-9]{1,5}))?")
_MAX_COUNT = 1 << 20
_MAX_HEADERS_LENGTH = 1000
_FAMILIES = {"4": 4, "6": 6}
# An identifier of a machine that goes into a header line.
_UUID = re.compile(r"[\x21-\x7e]{1,256}")


def read(settings: Settings) -> Network:
    """Returns the checked parameters; raises `InvalidInput` that names parameter, value and file."""

    def seconds(name: str, default: int, least: int = 0) -> int:
        return values.integer(settings, name, default, least, _MAX_SECONDS)

    timeout_s, timeout_direct_s = seconds("CVMFS_TIMEOUT", 5, 1), seconds("CVMFS_TIMEOUT_DIRECT", 5, 1)
    own = external.read(settings, timeout_s, timeout_direct_s)
    return {
        "proxies": _proxies(settings),
        "fallback_proxies": settings.get("CVMFS_FALLBACK_PROXY") or "",
        "timeout_s": timeout_s,
        "timeout_direct_s": timeout_direct_s,
        "max_retries": values.integer(settings, "CVMFS_MAX_RETRIES", 1, 0, 1000),
        "backoff_init_s": seconds("CVMFS_BACKOFF_INIT", 2),
        "backoff_max_s": seconds("CVMFS_BACKOFF_MAX", 10),
        "proxy_reset_after_s": seconds("CVMFS_PROXY_RESET_AFTER", 0),
        "host_reset_after_s": seconds("CVMFS_HOST_RESET_AFTER", 0),
        "low_speed_limit": values.integer(settings, "CVMFS_LOW_SPEED_LIMIT", 1024, 0, 1 << 40),
        "follow_redirects": settings.is_on("CVMFS_FOLLOW_REDIRECTS"),
        "is_sharded": settings.is_on("CVMFS_PROXY_SHARD"),
        "is_indefinite": settings.is_on("CVMFS_FAILOVER_INDEFINITELY"),
        "max_hosts": values.integer(settings, "CVMFS_MAX_SERVERS", 0, 0, _MAX_COUNT),
        # Whoever has a workspace puts the client's own there.
        "uuid": "" if settings.is_on("CVMFS_USE_GEOAPI") else None,
        "place": settings.get("CVMFS_PROXY_TEMPLATE") or None,
        "dns_server": _dns_server(settings),
        "host_aliases": os.environ.get("HOST_ALIASES") or os.environ.get("HOSTALIASES") or None,
        "dns_timeout_s": seconds("CVMFS_DNS_TIMEOUT", 3, 1),
        "dns_retries": values.integer(settings, "CVMFS_DNS_RETRIES", 1, 0, 1000),
        "dns_min_ttl_s": seconds("CVMFS_DNS_MIN_TTL", 60),
        "dns_max_ttl_s": seconds("CVMFS_DNS_MAX_TTL", 86_400),
        "ip_family": _FAMILIES.get(settings.get("CVMFS_IPFAMILY_PREFER") or ""),
        "ipv4_only": bool(os.environ.get("CVMFS_IPV4_ONLY")),
        "max_addresses_per_proxy": values.optional_integer(settings, "CVMFS_MAX_IPADDR_PER_PROXY", 1, _MAX_COUNT),
        "headers": _headers(settings),
        "agent_suffix": _agent_suffix(),
        "system_authorities": settings.is_on("CVMFS_USE_SSL_SYSTEM_CA"),
        "authorities_dir": os.environ.get("X509_CERT_DIR") or None,
        "authorities_file": os.environ.get("X509_CERT_BUNDLE") or None,
        "tells_subject": settings.is_on("CVMFS_SEND_INFO_HEADER"),
        "parallel_parts": not settings.is_off("NEARFS_PARALLEL_PARTS"),
        "external": {**own, "proxies": with_environment(own["proxies"])},
    }


def _dns_server(settings: Settings) -> tuple[str, int] | None:
    """Returns address and port of CVMFS_DNS_SERVER, or None for the system's."""
    name = "CVMFS_DNS_SERVER"
    text = (settings.get(name) or "").strip()
    if not text:
        return None
    match = _SERVER.fullmatch(text)
    address, port = (match["v6"] or match["v4"], match["port"]) if match else (text, None)
    number = int(port or _DNS_PORT)
    try:
        ipaddress.ip_address(address)
        socket.htons(number)
    except (ValueError, OverflowError):
        raise values.refusal(settings, name, "expected an address, with or without a port") from None
    return address, number


def _headers(settings: Settings) -> list[tuple[str, str]]:
    """Returns the header lines of CVMFS_HTTP_TRACING_HEADERS, `key:value` between `|`; wrong ones are left out."""
    text = settings.get("CVMFS_HTTP_TRACING_HEADERS") or ""
    if not settings.is_on("CVMFS_HTTP_TRACING") or len(text) > _MAX_HEADERS_LENGTH:
        return []
    pairs = [tuple(part.strip() for part in entry.split(":", 1)) for entry in text.split("|") if ":" in entry]
    is_line = re.compile(r"[\x20-\x7e]+").fullmatch
    return [(f"X-CVMFS-{key}", value) for key, value in pairs if key.isascii() and key.isalnum() and is_line(value)]


def _agent_suffix() -> str:
    """Returns what the machine's identity adds to the name that servers see."""
    uuid = os.environ.get("CERNVM_UUID", "")
    return f" {uuid}" if _UUID.fullmatch(uuid) else ""


def pac_urls(settings: Settings) -> tuple[str, ...]:
    """Returns where proxies are announced, for the word `auto` of a proxy list."""
    text = settings.get("CVMFS_PAC_URLS") or os.environ.get("CVMFS_PAC_URLS") or ""
    return tuple(url.strip() for url in text.split(";") if url.strip())


def with_environment(proxies: str) -> str:
    """Returns a proxy list with the variable `http_proxy` for `auto`, where it is set; without blanks."""
    found = os.environ.get("http_proxy") or _DISCOVER
    groups = [[member.strip() for member in group.split("|")] for group in proxies.split(";")]
    return ";".join("|".join(found if member == _DISCOVER else member for member in group) for group in groups)


def _proxies(settings: Settings) -> str:
    name = "CVMFS_HTTP_PROXY"
    proxies = (settings.get(name) or "").strip()
    if not proxies:
        message = f"{name} required (DIRECT where there is no proxy)"
        raise InvalidInput(message, operation="read configuration", subject=name, exit_code=InitCode.OPTIONS)
    return with_environment(proxies)
