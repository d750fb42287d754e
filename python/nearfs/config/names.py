"""Repository names: which are valid, and their parts.

Owns the rules only; completing a short name with the default domain needs the configuration files and is in `layers`.
Threading: pure functions.
"""

from __future__ import annotations

import re

from nearfs.errors import InvalidInput

# server.md 1.2 and client.md 2.3. The leading alphanumeric also keeps `.` and `..` out of paths.
MAX_NAME_LENGTH = 60
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def is_valid_name(name: str) -> bool:
    """Tells whether `name` may be a repository name, fully qualified or short."""
    return len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Returns `name`, or raises `InvalidInput` with the rule that it breaks."""
    if not is_valid_name(name):
        message = (
            f"invalid repository name: {name!r} (at most {MAX_NAME_LENGTH} of the characters A-Z a-z 0-9 - _ . "
            "and the first one a letter or digit)"
        )
        raise InvalidInput(message, operation="check repository name", subject=name)
    return name


def check_fqrn(name: str) -> str:
    """Returns `name` if it is a fully qualified repository name, i.e. valid and with a domain."""
    check_name(name)
    if not all(name.partition(".")):
        message = f"repository name {name!r} is not fully qualified (expected <name>.<domain>)"
        raise InvalidInput(message, operation="check repository name", subject=name)
    return name


def organization_of(fqrn: str) -> str:
    """Returns the first dot component, which is what `@org@` stands for."""
    return fqrn.partition(".")[0]


def domain_of(fqrn: str) -> str:
    """Returns everything after the first dot; empty for a short name."""
    return fqrn.partition(".")[2]
