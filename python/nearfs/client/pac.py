"""Asks one proxy auto-configuration file, in a process of its own that others may kill.

Owns the download and the evaluation (pypac). Does not own: where the files are and what is made of their answers
(`discovery`). Reads one request from standard input and writes one reply to standard output, both JSON: it runs what a
stranger wrote, so nothing of it reaches the client but text, its processor time and memory are limited, and files and
environment are kept from it.
Threading: a short-lived process, one thread.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import urllib.request
from typing import IO
from urllib.parse import urlsplit

SCRIPT_LIMIT_BYTES = 1 << 20
ANSWER_LIMIT = 16 << 10
_CPU_LIMIT_S = 5
_ERROR_LIMIT = 300
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


def _shut_in() -> None:
    """Takes from scripts what the engine lends them: any readable file, as a module, and the environment.

    Either would be carried out of the machine by one call of `dnsResolve`. Done in the classes, before there is an
    interpreter, since an interpreter hands both to its scripts while it is made.
    """
    from dukpy.module_loader import JSModuleLoader  # type: ignore[import-untyped]

    JSModuleLoader.lookup = lambda _loader, _name: (None, None)
    JSModuleLoader.load = lambda _loader, _name: (None, None, None)
    os.environ.clear()
    os.chdir("/")


def _ask(script: str, url: str, host: str) -> str:
    """Returns the script's answer for a URL and its host."""
    from pypac.parser import PACFile  # type: ignore[import-untyped]

    _shut_in()
    found = str(PACFile(script).find_proxy_for_url(url, host))
    if len(found) > ANSWER_LIMIT:
        message = f"its answer is longer than {ANSWER_LIMIT} characters"
        raise ValueError(message)
    return found


def _plain(text: str) -> str:
    """Returns a text that may be shown on a terminal and in the system's log, on one line."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))


def answer(request: dict[str, str]) -> dict[str, str]:
    """Returns the `answer` of the file `pac_url` for `url`, or as `error` what was wrong with it."""
    try:
        host = urlsplit(request["url"]).hostname or ""
        return {"answer": _plain(_ask(_download(request["pac_url"]), request["url"], host))}
    except Exception as error:  # noqa: BLE001 -- whatever a stranger's script or server makes of it
        return {"error": _plain(str(error)[:_ERROR_LIMIT]) or type(error).__name__}


def main(given: IO[str] = sys.stdin, out: IO[str] = sys.stdout) -> int:
    """Answers one request."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT_S, _CPU_LIMIT_S + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    json.dump(answer(json.load(given)), out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
