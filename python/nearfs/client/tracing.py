"""What a mount answers to `cvmfs_talk trace`: which files programs open meanwhile (nearfs only).

Owns the words, and the form of the answer. Does not own: what is noted (the engine), the rest of the commands
(`answers`). Threading: called from the control thread; never waits.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfs._native import Tracing

BEGIN, END = "trace begin", "trace end"
NAMES = frozenset({BEGIN, END})
_MAX_NUMBER = 1 << 32


def answer(tracing: Callable[[], Tracing], words: str) -> str | None:
    """Returns the reply to one command, without a newline; None for a command about something else."""
    if words == BEGIN:
        return str(tracing().begin())
    if words.startswith(f"{BEGIN} "):
        group = _number(words.removeprefix(f"{BEGIN} "))
        return str(tracing().begin(group)) if group else f"Usage: {BEGIN} [<process group>]"
    if words == END or words.startswith(f"{END} "):
        token = _number(words.removeprefix(END).strip())
        return _end(tracing(), token) if token is not None else f"Usage: {END} <token>"
    return None


def _end(tracing: Tracing, token: int) -> str:
    ended = tracing.end(token)
    if ended is None:
        return f"No recording has the token {token}"
    files, is_cut = ended
    items = [{"path": os.fsdecode(path), "offsets": offsets} for path, offsets in files]
    return json.dumps({"items": items, "is_cut": is_cut})


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) < _MAX_NUMBER else None
