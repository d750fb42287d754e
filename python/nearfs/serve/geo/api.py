"""Owns the geo API: what is asked for in the path, and the order of servers that answers it (format.md 8.8).

Does not own HTTP's replies (`reply`), names (`naming`) or places (`atlas`). One event loop's thread.
"""

import asyncio
import re
import time
from dataclasses import dataclass

from nearfs.serve.geo import sphere
from nearfs.serve.geo.atlas import Atlas
from nearfs.serve.geo.naming import Resolver, literal
from nearfs.serve.geo.sphere import Place

# A client has some ten servers; each of ours costs a look-up of its name.
SERVERS_LIMIT = 100
PATH_LIMIT = 16_384
RENEW_S = 60.0

_SEPARATOR = "+PXYSEP+"
_LOOKUPS = "_namelookups_"
_FUNCTION = "v1.0/geo/"
_PATH = re.compile(r"/cvmfs/[A-Za-z0-9][A-Za-z0-9._-]{0,254}/api/(.*)", re.DOTALL)


class BadRequestError(Exception):
    """Says that a question has no answer; its text is the reason, as clients are told."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Where a question came from, as far as the request tells: texts of addresses, or None."""

    peer: str | None
    cloudflare: str | None
    forwarded: str | None

    def addresses(self) -> list[str]:
        """Returns the addresses that may be the client's, the most trusted first."""
        last = self.forwarded.rpartition(",")[2].strip() if self.forwarded else None
        return [text for text in (self.cloudflare, last, self.peer) if text]


def function_of(path: str) -> str | None:
    """Returns what stands behind `api/` in a URL path, or None where that is no path of an API."""
    match = _PATH.fullmatch(path) if len(path) <= PATH_LIMIT else None
    return None if match is None else match[1]


class GeoApi:
    """Sorts servers by the distance of clients."""

    def __init__(self, atlas: Atlas) -> None:
        """Takes places from `atlas`, which the caller closes."""
        self._atlas = atlas
        self._resolver = Resolver()
        self._looked_at = time.monotonic()
        self._renewing: asyncio.Task[None] | None = None

    @property
    def lookups(self) -> int:
        """How many names were looked up so far."""
        return self._resolver.lookups

    async def answer(self, function: str, asker: Asker) -> str:
        """Returns the body for what stands behind `api/`. Raises BadRequestError."""
        if not function.startswith(_FUNCTION):
            raise BadRequestError("unrecognized api function")
        seen_from, slash, listed = function.removeprefix(_FUNCTION).partition("/")
        if not slash:
            raise BadRequestError("no slash in geo path")
        if seen_from == _LOOKUPS:
            return f"{self.lookups}\n"
        servers = listed.split(",")
        if len(servers) > SERVERS_LIMIT:
            raise BadRequestError(f"more than {SERVERS_LIMIT} servers")
        self._renew()
        origin, *places = await asyncio.gather(
            self._place_of(seen_from), *(self._place_of_server(name, asker) for name in servers)
        )
        origin = origin or self._place_of_asker(asker)
        if origin is None:
            raise BadRequestError("remote addr not found in database")
        if not any(places):
            raise BadRequestError("no server addr found in database")
        return ",".join(str(number + 1) for number in _order(origin, servers, places)) + "\n"

    async def _place_of(self, name: str) -> Place | None:
        """Returns where a host is: the first of its addresses that has a place."""
        found = (self._atlas.find(address) for address in await self._resolver.addresses(name))
        return next((place for place in found if place is not None), None)

    async def _place_of_server(self, name: str, asker: Asker) -> Place | None:
        """Returns where a server is.

        Behind Cloudflare its name has an address that is everywhere; `ip.NAME` is then the machine's own.
        """
        if asker.cloudflare is not None and literal(name) is None:
            own = await self._place_of(f"ip.{name}")
            if own is not None:
                return own
        return await self._place_of(name)

    def _place_of_asker(self, asker: Asker) -> Place | None:
        addresses = (literal(text) for text in asker.addresses())
        places = (self._atlas.find(address) for address in addresses if address is not None)
        return next((place for place in places if place is not None), None)

    def _renew(self) -> None:
        """Lets a thread look now and then whether there are newer places; nobody waits for it."""
        now = time.monotonic()
        if now - self._looked_at >= RENEW_S and (self._renewing is None or self._renewing.done()):
            self._looked_at = now
            self._renewing = asyncio.create_task(asyncio.to_thread(self._atlas.renew))


def _order(origin: Place, servers: list[str], places: list[Place | None]) -> list[int]:
    """Returns the 0-based numbers of `servers`, the best first."""
    if _SEPARATOR not in servers:
        return sphere.nearest_first(origin, places)
    # Hosts are asked through a proxy: how far they are from the client is no matter.
    middle = servers.index(_SEPARATOR)
    first = middle + 1
    proxies = [first + number for number in sphere.nearest_first(origin, places[first:])]
    nearest = places[proxies[0]] if proxies else None
    return [*sphere.nearest_first(nearest or origin, places[:middle]), *proxies, middle]
