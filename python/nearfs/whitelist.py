"""The whitelist: which certificates may sign a repository, until when (format.md 3.1 and 3.2).

Owns: writing, signing and reading the text. Does not own: key files (`keys`) and the decision whether to trust it (the
engine): what `parse_whitelist` returns is intact, not trusted.
Threading: pure functions, no clock, no files.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import envelope, hashes, signing
from nearfs.config import names
from nearfs.errors import Corrupt, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

    from nearfs.hashes import HashAlgorithm

DEFAULT_DAYS = 30
LIMIT_BYTES = envelope.MAX_SIGNED_TEXT_BYTES
"""A whitelist has no more bytes."""
# A century: enough for anyone, and the year keeps its four digits.
MAX_DAYS = 36525
_STAMP = "%Y%m%d%H%M%S"
_STAMP_LENGTH = 14


@dataclass(frozen=True)
class Fingerprint:
    """A certificate's fingerprint (`AB:CD:...`, `-SHAKE128` behind where it applies) and a comment for people."""

    text: str
    comment: str = ""

    @property
    def hash_text(self) -> str:
        """Returns the fingerprint as a hash text, for comparing."""
        return self.text.replace(":", "").lower()


@dataclass(frozen=True)
class Whitelist:
    """A whitelist that is intact, but whose signature nobody has checked. Times are UTC."""

    fqrn: str
    issued: dt.datetime
    expires: dt.datetime
    fingerprints: tuple[Fingerprint, ...]
    pkcs7: bool
    ca_chain: bool
    signed: envelope.Envelope

    def is_expired(self, now: dt.datetime) -> bool:
        """Tells whether it has expired: readers look at hours only, so the hour of expiry is already too late."""
        return _hour(now.astimezone(dt.UTC)) >= _hour(self.expires)

    def days_left(self, now: dt.datetime) -> int:
        """Returns whole days until it expires; negative when it already has."""
        return (_hour(self.expires) - now.astimezone(dt.UTC)).days

    def is_signed_by(self, master: RSAPublicKey) -> bool:
        """Tells whether a master key signed it: its raw block holds the text of the hash (format.md 3.2)."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

        try:
            recovered = master.recover_data_from_signature(self.signed.signature, PKCS1v15(), None)
        except InvalidSignature:
            return False
        return recovered == self.signed.hash_text.encode("ascii")

    def lists_certificate(self, der: bytes) -> bool:
        """Tells whether it vouches for a certificate, by a fingerprint of any algorithm."""
        return any(self.lists(signing.certificate_fingerprint(der, kind)) for kind in hashes.HashAlgorithm)

    def lists(self, fingerprint: str) -> bool:
        """Tells whether it vouches for a certificate."""
        wanted = Fingerprint(fingerprint).hash_text
        return any(entry.hash_text == wanted for entry in self.fingerprints)


def whitelist_body(fqrn: str, fingerprints: Sequence[Fingerprint], now: dt.datetime, days: int = DEFAULT_DAYS) -> bytes:
    """Returns the lines before the separator. Raises `InvalidInput` for bad names, fingerprints, comments or days."""
    names.check_fqrn(fqrn)
    if not 1 <= days <= MAX_DAYS:
        raise InvalidInput(f"a whitelist is valid for 1 to {MAX_DAYS} days, not {days}", operation="sign whitelist")
    if not fingerprints:
        raise InvalidInput(f"the whitelist of {fqrn} would list no certificate", operation="sign whitelist")
    issued = now.astimezone(dt.UTC)
    expires = issued + dt.timedelta(days=days)
    lines = [issued.strftime(_STAMP), f"E{expires.strftime(_STAMP)}", f"N{fqrn}"]
    lines += [_fingerprint_line(entry) for entry in fingerprints]
    return "".join(f"{line}\n" for line in lines).encode()


def sign_whitelist(
    fqrn: str,
    fingerprints: Sequence[Fingerprint],
    master_key: RSAPrivateKey,
    now: dt.datetime,
    *,
    days: int = DEFAULT_DAYS,
    hash_algorithm: HashAlgorithm = hashes.HashAlgorithm.SHA1,
) -> bytes:
    """Returns a signed whitelist. `now` must carry its time zone; the hash line uses `hash_algorithm`."""
    body = whitelist_body(fqrn, fingerprints, now, days)
    text = hashes.hash_text(body, hash_algorithm)
    return envelope.seal(body, text, signing.sign_raw(text.encode("ascii"), master_key))


def parse_whitelist(content: bytes) -> Whitelist:
    """Returns the parts of a whitelist. Raises `Corrupt`; lines that hold no fingerprint are skipped, as readers do."""
    opened = envelope.open_envelope(content, "whitelist")
    lines = opened.body.decode("utf-8", "replace").split("\n")
    if len(lines) < 3 or not lines[1].startswith("E") or not lines[2].startswith("N"):
        raise _corrupt("it does not begin with issue time, expiry and name")
    if not names.is_valid_name(lines[2][1:]):
        raise _corrupt(f"{lines[2][1:]!r} is no repository name")
    parsed = (_parse_fingerprint(line) for line in lines[3:])
    return Whitelist(
        fqrn=lines[2][1:],
        issued=_moment(lines[0]),
        expires=_moment(lines[1][1:]),
        fingerprints=tuple(entry for entry in parsed if entry is not None),
        pkcs7="Vpkcs7" in lines[3:5],
        ca_chain="Wcachain" in lines[3:5],
        signed=opened,
    )


def _fingerprint_line(entry: Fingerprint) -> str:
    if _parse_fingerprint(entry.text) is None:
        raise InvalidInput(f"{entry.text!r} is no certificate fingerprint", operation="sign whitelist")
    if not entry.comment:
        return entry.text
    if not entry.comment.isprintable():
        message = f"the comment {entry.comment!r} on a fingerprint has unprintable characters"
        raise InvalidInput(message, operation="sign whitelist")
    return f"{entry.text} # {entry.comment}"


def _parse_fingerprint(line: str) -> Fingerprint | None:
    end = min((place for mark in " \t#" if (place := line.find(mark)) >= 0), default=len(line))
    entry = Fingerprint(line[:end], line[end:].lstrip(" \t#").rstrip())
    return None if hashes.algorithm_of(entry.hash_text) is None else entry


def _moment(text: str) -> dt.datetime:
    if len(text) == _STAMP_LENGTH and text.isascii() and text.isdigit():
        try:
            return dt.datetime.strptime(text, _STAMP).replace(tzinfo=dt.UTC)
        except ValueError:
            pass
    raise _corrupt(f"{text!r} is no time of the form YYYYMMDDhhmmss")


def _hour(moment: dt.datetime) -> dt.datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _corrupt(reason: str) -> Corrupt:
    return Corrupt(f"whitelist is corrupt: {reason}", operation="read whitelist", subject="whitelist")
