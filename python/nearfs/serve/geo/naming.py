"""Owns the addresses of host names: each is asked of the system's resolver once in five minutes, with bounds on all.

A resolver may take half a minute to give up and cannot be interrupted, so each question has a daemon thread of its own,
of which there are few; whoever asked waits for a shorter time and then does without. One event loop's thread, but for
those.
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
import threading
import time
from collections import OrderedDict

from nearfs.serve.geo.table import Address

# server.md 9.
KEEP_S = 300.0
# A name that was not to be had may be a resolver's bad minute.
KEEP_FAILED_S = 30.0
# Shorter than the time that clients wait for an order of servers.
WAIT_LIMIT_S = 3.0
# Anybody may ask for any name: what that costs is limited here, and beyond it names have no address.
ASKING_LIMIT = 32
KNOWN_LIMIT = 4096
_ADDRESSES_LIMIT = 16

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_CLIENT_ID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

Addresses = tuple[Address, ...]


def literal(text: str) -> Address | None:
    """Returns the address that `text` spells, with or without brackets, or None."""
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


class Resolver:
    """The names that were asked for lately, and their addresses."""

    def __init__(self) -> None:
        """Begins without names."""
        self.lookups = 0
        self._known: OrderedDict[str, tuple[float, Addresses]] = OrderedDict()
        self._asking: dict[str, asyncio.Future[Addresses]] = {}

    async def addresses(self, name: str) -> Addresses:
        """Returns the addresses of a host name or of an address; none where it has none or they take too long."""
        spelled = literal(name)
        if spelled is not None:
            return (spelled,)
        if not _HOST_NAME.fullmatch(name) or _CLIENT_ID.fullmatch(name):
            return ()
        name = name.lower()
        until, known = self._known.get(name, (0.0, ()))
        if until > time.monotonic():
            self._known.move_to_end(name)
            return known
        asked = self._asking.get(name) or self._ask(name)
        if asked is None:
            return known
        # The question goes on: its answer serves the next one who asks.
        done, _ = await asyncio.wait([asked], timeout=WAIT_LIMIT_S)
        return asked.result() if done else known

    def _ask(self, name: str) -> asyncio.Future[Addresses] | None:
        """Begins a question; None where too many are under way."""
        if len(self._asking) >= ASKING_LIMIT:
            return None
        self.lookups += 1
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[Addresses] = loop.create_future()
        self._asking[name] = asked

        def look_up() -> None:
            found = _look_up(name)
            # The loop may have ended meanwhile, and then nobody waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._answered, name, found)

        threading.Thread(target=look_up, name=f"look up {name}", daemon=True).start()
        return asked

    def _answered(self, name: str, found: Addresses) -> None:
        addresses = found or self._known.get(name, (0.0, ()))[1]
        self._known[name] = (time.monotonic() + (KEEP_S if found else KEEP_FAILED_S), addresses)
        self._known.move_to_end(name)
        while len(self._known) > KNOWN_LIMIT:
            self._known.popitem(last=False)
        self._asking.pop(name).set_result(addresses)


def _look_up(name: str) -> Addresses:
    """Asks the system's resolver; blocks as long as that takes."""
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    found = (literal(str(answer[4][0])) for answer in answers)
    return tuple(address for address in found if address is not None)[:_ADDRESSES_LIMIT]
