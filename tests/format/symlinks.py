"""Variables in symlink targets (format section 4.13). Pure functions."""

from __future__ import annotations

from collections.abc import Mapping


def expand_target(target: bytes, environment: Mapping[bytes, bytes]) -> bytes:
    """Returns a symlink target with $(NAME) and $(NAME:-default) replaced; an unclosed $( stays as it is."""
    parts: list[bytes] = []
    at = 0
    while at < len(target):
        opening = target.find(b"$(", at)
        closing = target.find(b")", opening + 2) if opening >= 0 else -1
        if opening < 0 or closing < 0 or opening + 2 >= len(target):
            break
        name, _, default = target[opening + 2 : closing].partition(b":-")
        parts += [target[at:opening], environment.get(name, default)]
        at = closing + 1
    return b"".join([*parts, target[at:]])
