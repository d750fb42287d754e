"""Proxies that a site announces: the word `auto` of a proxy list, replaced by what PAC files say (client.md 3.2).

Owns the composition of the list, and the note of what was found last, which holds while nobody answers. Does not own:
the evaluation of the files (`pac`, in a process of its own), the lists' use (the engine's transport).
Threading: called once, while a mount comes up; waits for `LIMIT_S` at most.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from nearfs.errors import InitCode, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

AUTO = "auto"
DIRECT = "DIRECT"
LIMIT_S = 20.0
_FILE_LIMIT_S = 8.0
WELL_KNOWN = "http://wpad/wpad.dat"
_NOTE_LIMIT_BYTES = 64 << 10
_MANIFEST = "/.cvmfspublished"
_MAX_PORT = 65_535
_MAX_PROXIES = 64
_PROXY = re.compile(r"(?i:PROXY)\s+(?P<host>[0-9A-Za-z._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[0-9]{1,5})")
_LIST = re.compile(r"[\x21-\x7e]+")


def is_wanted(proxies: str) -> bool:
    """Says whether a proxy list has the word `auto` in it."""
    return any(member.strip() == AUTO for group in proxies.split(";") for member in group.split("|"))


def resolve(
    proxies: str,
    server_urls: Sequence[str],
    pac_urls: Sequence[str],
    note: str | None,
    *,
    parameter: str = "CVMFS_HTTP_PROXY",
) -> str:
    """Returns the proxy list of a parameter without `auto`; the list itself if it has none.

    What PAC files say is written to the file `note`, and taken from there where they cannot be asked. Where there is
    nothing either, the other proxies of the list do; raises `NotFound` with exit code 23 if there are no others.
    """
    if not is_wanted(proxies):
        return proxies
    found, errors = _discover(server_urls, pac_urls)
    if found:
        resolved = compose(proxies, found)
        if note is not None:
            _write(note, resolved)
        return resolved
    kept = _read(note) if note is not None else ""
    resolved = kept or compose(proxies, [])
    if not resolved:
        reason = "; ".join(errors) or "set CVMFS_PAC_URLS or http_proxy, or name the proxies"
        message = f"{parameter}={proxies}: proxies cannot be discovered: {reason}"
        raise NotFound(message, operation="discover proxies", subject=AUTO, exit_code=InitCode.PROXY_DISCOVERY)
    return resolved


def compose(proxies: str, found: Sequence[str]) -> str:
    """Returns the list with `found` instead of `auto`; found proxies are tried one after the other, as they stand.

    The first one joins the load-balance group of the word, each other one is a group of its own behind it.
    """
    groups: list[list[str]] = []
    for group in proxies.split(";"):
        members = [member.strip() for member in group.split("|") if member.strip()]
        if AUTO not in members:
            groups.append(members)
            continue
        groups.append([other for member in members for other in (found[:1] if member == AUTO else [member])])
        groups.extend([proxy] for proxy in found[1:])
    return ";".join("|".join(group) for group in groups if group)


def proxies_of(answer: str) -> list[str]:
    """Returns the proxies that a PAC file's answer names, in its order; other words are skipped."""
    proxies: list[str] = []
    for part in answer.split(";"):
        match = _PROXY.fullmatch(part.strip())
        if match is not None and 0 < int(match["port"]) <= _MAX_PORT:
            proxies.append(f"http://{match['host']}:{match['port']}")
        elif part.strip().upper() == DIRECT:
            proxies.append(DIRECT)
    return proxies[:_MAX_PROXIES]


def _discover(server_urls: Sequence[str], pac_urls: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the proxies for the first server by the first file that names some, and what was wrong with the others.

    Every file has a process and a share of the time of its own: one that never ends does not keep the next from being
    asked.
    """
    servers = [url for url in server_urls if url and not url.startswith("file:")]
    errors: list[str] = []
    until = time.monotonic() + LIMIT_S
    for url in [WELL_KNOWN if url == AUTO else url for url in pac_urls] if servers else []:
        left = min(_FILE_LIMIT_S, until - time.monotonic())
        if left <= 0:
            errors.append(f"{url}: not asked, {LIMIT_S:.0f} s are over")
            break
        answer, error = _evaluate(servers[0] + _MANIFEST, url, left)
        found = proxies_of(answer)
        if found:
            return found, errors
        errors.append(f"{url}: {error or f'the answer `{answer[:100]}` names no proxy'}")
    return [], errors


def _evaluate(url: str, pac_url: str, limit_s: float) -> tuple[str, str]:
    """Returns what a PAC file answers for a URL, and what was wrong; one of them is empty."""
    # Without -P Python would import from the directory that the mount was called in, which may be anybody's.
    command = [sys.executable, "-P", "-m", "nearfs.client.pac"]
    request = json.dumps({"url": url, "pac_url": pac_url}).encode()
    try:
        done = subprocess.run(command, input=request, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
                              timeout=limit_s)  # fmt: skip
        reply = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {limit_s:.0f} s"
    except OSError as error:
        return "", f"{sys.executable} cannot be started: {error.strerror}"
    except ValueError:
        return "", "it took too long, or too much memory, to be evaluated"
    return reply.get("answer", ""), reply.get("error", "")


def _write(path: str, text: str) -> None:
    """Replaces the note; a mount does not fail because it cannot be written."""
    with contextlib.suppress(OSError):
        descriptor, temporary = tempfile.mkstemp(prefix="proxies.", dir=os.path.dirname(path))
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as opened:
                opened.write(text)
                opened.flush()
                os.fchmod(descriptor, 0o660)
                os.fsync(descriptor)
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _read(path: str) -> str:
    """Returns what was found last, or nothing."""
    try:
        with open(path, "rb") as opened:
            text = opened.read(_NOTE_LIMIT_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return text if _LIST.fullmatch(text) and not is_wanted(text) else ""
