"""What a mount answers to `cvmfs_talk` about hosts, proxies, time-outs and the name server (client.md 2.7).

Owns the texts and the reading of arguments. Does not own: the rest of the commands (`answers`), the facts (the engine).
Threading: called from the control thread; `host probe geo` waits for one network time-out at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.client import identity
from nearfs.errors import NearfsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfs._native import Route
    from nearfs.client.served import ServedMount
    from nearfs.config.model import ClientConfig

_MAX_SECONDS = 86_400
SORT = "host probe geo"
EXTERNAL = "external"


def answer(mount: ServedMount, config: Callable[[], ClientConfig], words: str) -> str | None:
    """Returns the reply to one command, without a newline; None for a command about something else."""
    if words == SORT:
        return _sort_hosts(mount.route, config())
    plain = PLAIN.get(words)
    if plain is not None:
        return plain(mount.route)
    for name, act in WITH_TEXT.items():
        if words == name:
            return f"Usage: {USAGES[name]}"
        if words.startswith(f"{name} "):
            return act(mount.route, words.removeprefix(f"{name} "))
    return _of_external_data(mount, words) if words.startswith(f"{EXTERNAL} ") else None


def _of_external_data(mount: ServedMount, words: str) -> str | None:
    name = next((name for name in OF_EXTERNAL_DATA if f"{words} ".startswith(f"{name} ")), None)
    if name is None:
        return None
    bare, text = name.removeprefix(f"{EXTERNAL} "), words.removeprefix(name).strip()
    plain = PLAIN.get(bare)
    if plain is not None:
        return plain(mount.external_route)
    return WITH_TEXT[bare](mount.external_route, text) if text else f"Usage: {EXTERNAL} {USAGES[bare]}"


def _host_info(route: Route) -> str:
    hosts, active = route.hosts()
    if not hosts:
        return "No hosts defined"
    states = route.host_states()
    lines = [f"  [{number}] {url} ({state})" for number, (url, state) in enumerate(zip(hosts, states, strict=False))]
    return "\n".join([*lines, f"Active host {active}: {hosts[active]}"])


def _proxy_info(route: Route) -> str:
    groups, group, active, fallback = route.proxies()
    lines = [f"[{number}] {', '.join(members)}" for number, members in enumerate(groups)]
    last = [f"First fallback group: [{fallback}]"] if fallback is not None else []
    return "\n".join(["Load-balance groups:", *lines, f"Active proxy: [{group}] {active}", *last])


def _timeout_info(route: Route) -> str:
    by_proxy, direct = route.timeouts()
    return f"Timeout with proxy: {by_proxy}s\nTimeout without proxy: {direct}s"


def _nameserver(route: Route) -> str:
    server = route.nameserver()
    return "DNS server not set." if server is None else f"DNS server address: {server}"


def _sort_hosts(route: Route, config: ClientConfig) -> str:
    try:
        route.sort_hosts(identity.of(config.workspace), config.network["place"])
    except NearfsError:
        return "Failed"
    return "OK"


def _set_timeouts(route: Route, text: str) -> str:
    words = text.split()
    if len(words) != len(("by proxy", "direct")) or not all(w.isascii() and w.isdigit() for w in words):
        return f"Usage: {USAGES['timeout set']}"
    by_proxy, direct = (int(word) for word in words)
    if not (0 < by_proxy <= _MAX_SECONDS and 0 < direct <= _MAX_SECONDS):
        return f"Usage: {USAGES['timeout set']}"
    route.set_timeouts(by_proxy, direct)
    return "OK"


def _set_proxies(route: Route, text: str) -> str:
    try:
        route.set_proxies(text)
    except NearfsError:
        return "Failed, no valid proxies"
    return "OK"


def _done(act: Callable[[], None]) -> str:
    try:
        act()
    except NearfsError as error:
        return str(error)
    return "OK"


PLAIN: dict[str, Callable[[Route], str]] = {
    "host info": _host_info,
    "host probe": lambda route: _done(route.probe_hosts),
    "host switch": lambda route: _done(route.switch_host),
    "proxy info": _proxy_info,
    "proxy rebalance": lambda route: _done(route.rebalance_proxies),
    "proxy group switch": lambda route: _done(route.switch_proxy_group),
    "timeout info": _timeout_info,
    "nameserver get": _nameserver,
}
WITH_TEXT: dict[str, Callable[[Route, str], str]] = {
    "host set": lambda route, text: _done(lambda: route.set_hosts(text)),
    "proxy set": _set_proxies,
    "proxy fallback": lambda route, text: _done(lambda: route.set_fallback_proxies(text)),
    "timeout set": _set_timeouts,
    "nameserver set": lambda route, text: _done(lambda: route.set_nameserver(text)),
}
USAGES = {
    "host set": "host set <host list>",
    "proxy set": "proxy set <proxy list>",
    "proxy fallback": "proxy fallback <proxy list>",
    "timeout set": "timeout set <proxy> <direct>",
    "nameserver set": "nameserver set <ip>",
}
OF_EXTERNAL_DATA = (
    "external host info",
    "external host switch",
    "external host set",
    "external proxy info",
    "external proxy set",
)
COMMANDS = PLAIN.keys() | WITH_TEXT.keys() | {SORT, *OF_EXTERNAL_DATA}
