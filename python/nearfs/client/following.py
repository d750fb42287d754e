"""What a mount answers to `cvmfs_talk` about revisions: looking for a new one, time to live, catalogs (client.md 2.7).

Owns the texts. Does not own: the rest of the commands (`answers`), the switch itself (the engine).
Threading: called from the control thread; `remount` waits for as long as the catalogs of a new revision take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.errors import NearfsError, NoSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfs._native import Following

_SET_TTL = "max ttl set"
_MAX_MINUTES = 1 << 20
_INDENT = 4


def answer(following: Callable[[], Following], words: str) -> str | None:
    """Returns the reply to one command, without a newline; None for a command about something else."""
    plain = COMMANDS.get(words)
    if plain is not None:
        return plain(following())
    if words == _SET_TTL:
        return f"Usage: {_SET_TTL} <minutes>"
    if words.startswith(f"{_SET_TTL} "):
        return _set_max_ttl(following(), words.removeprefix(f"{_SET_TTL} "))
    return None


def _remount(following: Following) -> str:
    try:
        return "New revision applied" if following.remount() else "Catalog up to date"
    except NoSpace:
        return "Failed (no space)"
    except NearfsError:
        return "Failed"


def _max_ttl(following: Following) -> str:
    limit_s = following.max_ttl_s
    return "unset" if limit_s is None else f"{limit_s // 60} minutes"


def _set_max_ttl(following: Following, minutes: str) -> str:
    if not minutes.isascii() or not minutes.isdigit() or int(minutes) > _MAX_MINUTES:
        return f"Usage: {_SET_TTL} <minutes>"
    following.set_max_ttl(int(minutes) * 60 or None)
    return "OK"


def _catalogs(following: Following) -> str:
    lines = (f"{' ' * (_INDENT * depth)}-> {path.decode('utf-8', 'replace')}" for depth, path in following.catalogs())
    return "\n".join(lines)


def _detach(following: Following) -> str:
    following.release_nested()
    return "OK"


def _reset_errors(following: Following) -> str:
    following.reset_error_counters()
    return "OK"


COMMANDS: dict[str, Callable[[Following], str]] = {
    # The engine switches wholly or not at all, so that there is nothing left to wait for.
    "remount": _remount,
    "remount sync": _remount,
    "max ttl info": _max_ttl,
    "open catalogs": _catalogs,
    "detach nested catalogs": _detach,
    "reset error counters": _reset_errors,
}
"""The commands without an argument."""
NAMES = COMMANDS.keys() | {_SET_TTL}
"""All commands that this module answers."""
