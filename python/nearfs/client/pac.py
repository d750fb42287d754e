"""Asks proxy auto-configuration files, in a process of its own that others may kill.

Owns the download and the evaluation (pypac). Does not own: where the files are and what is made of their answers
(`discovery`). Reads one request from standard input and writes one reply to standard output, both JSON: it runs what a
stranger wrote, so nothing of it reaches the client but text, and its processor time and memory are limited.
Threading: a short-lived process, one thread.
"""

from __future__ import annotations

import json
import resource
import sys
import urllib.request
from typing import IO
from urllib.parse import urlsplit

SCRIPT_LIMIT_BYTES = 1 << 20
_CPU_LIMIT_S = 5
_MEMORY_LIMIT_BYTES = 1 << 30
_TIMEOUT_S = 5.0
_WEB = frozenset({"http", "https"})


def _download(url: str) -> str:
    """Returns the text of a file; raises `ValueError` or `OSError`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    if urlsplit(url).scheme not in _WEB:
        message = "neither http:// nor https://"
        raise ValueError(message)
    with opener.open(url, timeout=_TIMEOUT_S) as reply:
        if urlsplit(reply.geturl()).scheme not in _WEB:
            message = f"it redirects to {reply.geturl()}"
            raise ValueError(message)
        content: bytes = reply.read(SCRIPT_LIMIT_BYTES + 1)
    if len(content) > SCRIPT_LIMIT_BYTES:
        message = f"it is larger than {SCRIPT_LIMIT_BYTES} bytes"
        raise ValueError(message)
    return content.decode("utf-8", "replace")


def _ask(script: str, asked: list[tuple[str, str]]) -> list[str]:
    """Returns the script's answer for each pair of a URL and its host."""
    from pypac.parser import PACFile  # type: ignore[import-untyped]

    pac = PACFile(script)
    return [str(pac.find_proxy_for_url(url, host)) for url, host in asked]


def answer(request: dict[str, list[str]]) -> dict[str, list[str]]:
    """Returns the answers of the first file that has some, and what was wrong with those before it."""
    asked = [(url, urlsplit(url).hostname or "") for url in request["urls"]]
    errors: list[str] = []
    for url in request["pac_urls"]:
        try:
            return {"answers": _ask(_download(url), asked), "errors": errors}
        except Exception as error:  # noqa: BLE001 -- whatever a stranger's script or server makes of it
            errors.append(f"{url}: {' '.join(str(error).split())[:300] or type(error).__name__}")
    return {"answers": [], "errors": errors}


def main(given: IO[str] = sys.stdin, out: IO[str] = sys.stdout) -> int:
    """Answers one request."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT_S, _CPU_LIMIT_S + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    json.dump(answer(json.load(given)), out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
