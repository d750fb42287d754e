"""Letters on standard input and output: signed with a repository's certificate, or checked against its whitelist.

Owns: exit codes and the order of checks. Does not own: the form of a letter. Threading: a short-lived command.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import keys, letter, whitelist
from nearfs.cli import output
from nearfs.errors import NearfsError, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from nearfs.cli.stored_cmd import Stored
    from nearfs.hashes import HashAlgorithm

EXIT_NO_TRUST_ANCHOR = 2
EXIT_BAD_LETTER = 3
EXIT_WHITELIST_EXPIRED = 4
EXIT_NOT_LISTED = 5


@dataclass(frozen=True)
class Check:
    """What a letter has to fit: repository, its place, master keys, and the age in seconds (0 is any)."""

    fqrn: str
    place: Stored
    master_keys: list[Path]
    max_age_s: int


def sign(text: bytes, *, fqrn: str, certificate: Path, key: Path, algorithm: HashAlgorithm) -> int:
    """Prints a text as a letter."""
    try:
        keys.load_certificate(certificate)
        pem, private = keys.read_key_file(certificate), keys.load_private_key(key)
    except NearfsError as error:
        output.complain(str(error))
        return EXIT_NO_TRUST_ANCHOR
    output.line(
        letter.seal(text, fqrn=fqrn, certificate_pem=pem, key=private, algorithm=algorithm, now_s=int(time.time()))
    )
    return 0


def verify(text: str, check: Check) -> int:
    """Prints what a letter says if the repository's whitelist vouches for who wrote it."""
    try:
        listed = _whitelist(check)
    except NearfsError as error:
        output.complain(f"failed to load whitelist: {error}")
        return EXIT_NO_TRUST_ANCHOR
    try:
        opened = letter.open_letter(text)
    except NearfsError as error:
        output.complain(str(error))
        return EXIT_BAD_LETTER
    if opened.fqrn != check.fqrn:
        output.complain(f"the letter is of repository {opened.fqrn!r}, not of {check.fqrn}")
        return EXIT_BAD_LETTER
    if check.max_age_s and opened.written_s + check.max_age_s < time.time():
        output.complain(f"the letter is older than {check.max_age_s} s")
        return EXIT_BAD_LETTER
    if listed.is_expired(dt.datetime.now(dt.UTC)):
        output.complain("whitelist expired")
        return EXIT_WHITELIST_EXPIRED
    if not listed.lists_certificate(keys.certificate_der(opened.certificate)):
        output.complain("the whitelist does not list the letter's certificate")
        return EXIT_NOT_LISTED
    output.content(opened.text)
    return 0


def _whitelist(check: Check) -> whitelist.Whitelist:
    content = check.place.file(".cvmfswhitelist", whitelist.LIMIT_BYTES)
    if content is None:
        raise NotFound(f"{check.place.place}: there is no .cvmfswhitelist (-r)", operation="read whitelist")
    listed = whitelist.parse_whitelist(content)
    if listed.fqrn != check.fqrn or not any(
        listed.is_signed_by(master) for master in keys.load_public_keys(check.master_keys)
    ):
        message = f"the whitelist of {check.place.place} is not one of {check.fqrn} by the given master keys (-k)"
        raise NotFound(message, operation="check whitelist")
    return listed
