"""What a client fetches before it is asked for (docs/cold-start.md, `NEARFS_PREFETCH*`).

Owns: reading those parameters, which are nearfs's own. Does not own: what is done with them (the engine's prefetch).
Pure functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.config import values

if TYPE_CHECKING:
    from nearfs.config.layers import Settings
    from nearfs.records import Prefetch

DEFAULT_BUDGET_MIB = 2
DEFAULT_REQUESTS = 192
_MAX_BUDGET_MIB = 1 << 20
# Of the 256 requests of a client that are under way at a time; who waits has the rest.
_MAX_REQUESTS = 192
# A site may have set for other clients what means no bound here.
_MAX_BUNDLE_REQUESTS = 1 << 20


def read(settings: Settings) -> Prefetch:
    """Returns the checked parameters; raises `InvalidInput` that names parameter, value and file.

    `NEARFS_PREFETCH=no` switches everything off. So does the mode for publishers, who read what is beside them.
    """
    is_on = not settings.is_off("NEARFS_PREFETCH") and not settings.is_on("CVMFS_SERVER_CACHE_MODE")
    requests = values.integer(settings, "NEARFS_PREFETCH_REQUESTS", DEFAULT_REQUESTS, 1, _MAX_REQUESTS)
    budget_mib = values.integer(settings, "NEARFS_PREFETCH_BUDGET", DEFAULT_BUDGET_MIB, 0, _MAX_BUDGET_MIB)
    return {
        "neighbours": is_on and not settings.is_off("NEARFS_PREFETCH_NEIGHBOURS"),
        "catalogs": is_on and not settings.is_off("NEARFS_PREFETCH_CATALOGS"),
        "readahead": is_on and not settings.is_off("NEARFS_PREFETCH_READAHEAD"),
        "traces": is_on and not settings.is_off("NEARFS_PREFETCH_TRACES"),
        "packs": is_on and not settings.is_off("NEARFS_PREFETCH_PACKS"),
        # Off unless it is set, in the reference client; here a publisher's word is taken unless somebody objects.
        "bundles": is_on and not settings.is_off("CVMFS_PREFETCH_FILEBUNDLES"),
        "budget_bytes": budget_mib << 20,
        "requests": requests,
        # The reference client opens eight connections where nobody says; here bundles have what all guesses have.
        "bundle_requests": values.integer(settings, "CVMFS_BUNDLE_POOL_SIZE", requests, 1, _MAX_BUNDLE_REQUESTS),
    }
