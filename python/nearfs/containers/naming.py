"""What a volume is: a repository, one of its revisions, and parameters; read from its name and its options.

Owns: the forms of names (server.md 11.1), which options and parameters a volume may have, and their checks. Does not
own: mounting. Threading: pure functions.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from nearfs.config import names
from nearfs.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME_LIMIT = 255
VALUE_LIMIT = 4096
_TAG = re.compile(r"[A-Za-z0-9_./:-]{1,255}")
_HASH = re.compile(r"[0-9a-f]{40}(-rmd160|-shake128)?")
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_MARK_LENGTH = 8
_DATE_FORM = "%Y-%m-%dT%H:%M:%SZ"
# A colon ends the name of a volume on Docker's command line, hence the forms without.
_DATE_FORMS = (_DATE_FORM, "%Y-%m-%dT%H%M%SZ", "%Y%m%dT%H%M%SZ", "%Y-%m-%d")

# What is left to whoever starts a container: how bytes come, and how they look. What names files and users of the
# machine, or whom it trusts, is its administrator's.
PARAMETERS = frozenset(
    f"CVMFS_{name}"
    for name in (
        *("SERVER_URL", "HTTP_PROXY", "FALLBACK_PROXY", "USE_GEOAPI", "MAX_SERVERS", "FOLLOW_REDIRECTS"),
        *("TIMEOUT", "TIMEOUT_DIRECT", "LOW_SPEED_LIMIT", "MAX_RETRIES", "BACKOFF_INIT", "BACKOFF_MAX"),
        *("PROXY_RESET_AFTER", "HOST_RESET_AFTER", "PROXY_SHARD", "FAILOVER_INDEFINITELY", "SEND_INFO_HEADER"),
        *("AUTO_UPDATE", "MAX_TTL", "KCACHE_TIMEOUT", "ALT_ROOT_PATH"),
        *("CLAIM_OWNERSHIP", "CHECK_PERMISSIONS", "WORLD_READABLE", "HIDE_MAGIC_XATTRS", "MAGIC_XATTRS_VISIBILITY"),
    )
)
OPTIONS = ("repository", "tag", "hash", "date")


class Kind(Enum):
    """How a revision is named: the values are also the words of the options, and of the state on disk."""

    NEWEST = "newest"
    TAG = "tag"
    HASH = "hash"
    DATE = "date"


# What chooses a revision in the configuration of a client. One that is not wanted is emptied, lest another one counts.
_CHOOSERS = {
    Kind.TAG: "CVMFS_REPOSITORY_TAG",
    Kind.HASH: "CVMFS_ROOT_HASH",
    Kind.DATE: "CVMFS_REPOSITORY_DATE",
}


@dataclass(frozen=True)
class Volume:
    """One revision of one repository, as one mount shows it. `value` is empty for the newest revision."""

    repository: str
    kind: Kind
    value: str
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def identity(self) -> str:
        """Returns a file name that two volumes share exactly where they can share a mount."""
        shown, marked = self.value, bool(self.parameters)
        if self.kind is Kind.DATE:
            shown = shown.replace("-", "").replace(":", "")
        elif _PLAIN.fullmatch(shown) is None:
            shown, marked = re.sub(r"[^A-Za-z0-9_.-]", "_", shown)[:100], marked or bool(shown)
        text = self.repository + {Kind.NEWEST: "", Kind.DATE: "#"}.get(self.kind, "@") + shown
        if not marked:
            return text
        whole = "\0".join([self.kind.value, self.value, *(f"{name}={value}" for name, value in self.parameters)])
        return f"{text}+{hashlib.sha1(whole.encode()).hexdigest()[:_MARK_LENGTH]}"

    def described(self) -> str:
        """Returns the volume as sentences name it."""
        if self.kind is Kind.NEWEST:
            return self.repository
        words = {Kind.TAG: "tag", Kind.HASH: "root hash", Kind.DATE: "date"}
        return f"{self.repository} at {words[self.kind]} {self.value}"

    def settings(self) -> dict[str, str]:
        """Returns the parameters by which the client of this volume differs from another one of this machine."""
        chosen = {} if self.kind is Kind.NEWEST else dict.fromkeys(_CHOOSERS.values(), "")
        if self.kind is not Kind.NEWEST:
            chosen[_CHOOSERS[self.kind]] = self.value
        return {**dict(self.parameters), **chosen}


def check_volume_name(name: object) -> str:
    """Returns `name` if it may be the name of a volume; raises `InvalidInput`."""
    if not isinstance(name, str) or not name or len(name) > NAME_LIMIT or not name.isprintable():
        message = f"a volume has a name of 1 to {NAME_LIMIT} printable characters, not {str(name)[:NAME_LIMIT]!r}"
        raise InvalidInput(message, operation="read volume name", subject=str(name)[:NAME_LIMIT])
    return name


def parse(name: str, options: Mapping[str, str]) -> Volume:
    """Returns the volume that a name and its options stand for; raises `InvalidInput` with the rule that is broken.

    Names are `FQRN`, `FQRN@TAG`, `FQRN@ROOTHASH`, `FQRN#DATE` and `FQRN#ROOTHASH`. With the option `repository`, the
    name is free.
    """
    _check_options(options)
    repository = options.get("repository")
    found: list[tuple[Kind, str]] = []
    if repository is None:
        repository, mark, value = _split(name)
        found += [(_kind(mark, value), value)] if mark else []
    found += [(kind, options[kind.value]) for kind in _CHOOSERS if kind.value in options]
    if len(found) > 1:
        said = " and ".join(f"{kind.value} {value!r}" for kind, value in found)
        raise _refused(name, f"it names more than one revision: {said}")
    kind, value = found[0] if found else (Kind.NEWEST, "")
    try:
        names.check_fqrn(repository)
    except InvalidInput as error:
        raise _refused(name, f"{error}; a volume is named FQRN, FQRN@TAG, FQRN@ROOTHASH or FQRN#DATE") from None
    parameters = tuple(sorted((key, text) for key, text in options.items() if key not in OPTIONS))
    return Volume(repository, kind, _checked_value(name, kind, value), parameters)


def _split(name: str) -> tuple[str, str, str]:
    match = re.search("[@#]", name)
    if match is None:
        return name, "", ""
    return name[: match.start()], match[0], name[match.end() :]


def _kind(mark: str, value: str) -> Kind:
    if _HASH.fullmatch(value):
        return Kind.HASH
    return Kind.TAG if mark == "@" else Kind.DATE


def _checked_value(name: str, kind: Kind, value: str) -> str:
    if kind is Kind.DATE:
        return _date(name, value)
    if kind is Kind.HASH and _HASH.fullmatch(value) is None:
        raise _refused(name, f"{value!r} is no root hash: 40 lower-case hex digits, -rmd160 or -shake128 behind them")
    if kind is Kind.TAG and _TAG.fullmatch(value) is None:
        raise _refused(name, f"{value!r} is no tag: letters, digits and _ . / : - make one, 255 at most")
    return value


def _date(name: str, value: str) -> str:
    """Returns a moment as the client wants it; a day alone is its beginning. All are UTC."""
    for form in _DATE_FORMS:
        try:
            return dt.datetime.strptime(value, form).replace(tzinfo=dt.UTC).strftime(_DATE_FORM)
        except ValueError:
            continue
    raise _refused(name, f"{value!r} is no date: write 2026-01-31, or 2026-01-31T235900Z for a moment, in UTC")


def _check_options(options: Mapping[str, str]) -> None:
    for key, value in options.items():
        if key not in OPTIONS and key not in PARAMETERS:
            known = f"known are {', '.join(OPTIONS)} and parameters such as CVMFS_HTTP_PROXY"
            away = "; set it in /etc/cvmfs" if key.startswith("CVMFS_") else ""
            raise InvalidInput(f"a volume has no option {key[:NAME_LIMIT]!r}: {known}{away}", subject=key)
        # The file of parameters has a line a parameter, in which # begins a comment.
        if not value.isprintable() or value != value.strip() or "#" in value or len(value) > VALUE_LIMIT:
            message = f"the value of {key} must be one line without # and outer blanks, of {VALUE_LIMIT} characters"
            raise InvalidInput(message, operation="read volume options", subject=key)


def _refused(name: str, reason: str) -> InvalidInput:
    return InvalidInput(f"volume {name!r}: {reason}", operation="read volume name", subject=name)
