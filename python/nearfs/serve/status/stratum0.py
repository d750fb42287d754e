"""Owns what the stratum 0 of a replica says of its newest revision: asked in the background, so that no page waits.

It is asked over HTTP, directly, for the manifest and nothing else; its word is no proof, and is shown as its word.
Threading: `heads` and `ask` belong to one thread at a time; questions have daemon threads of their own.
"""

import contextlib
import http.client
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from nearfs import signing
from nearfs.errors import Corrupt

ASK_AGAIN_S = 60.0
QUESTION_LIMIT_S = 10.0
WORKERS = 4
_MANIFEST_LIMIT_BYTES = 64 << 10
_PIECE_BYTES = 16 << 10


@dataclass(frozen=True)
class Head:
    """The newest revision at a stratum 0, or why it is not known. `asked` and `published` are Unix seconds."""

    asked: int
    revision: int | None = None
    published: int | None = None
    trouble: str | None = None


class Masters:
    """The stratum 0 of each replica, by the replica's name."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        """Takes the URLs of repositories at their stratum 0, such as `http://host/cvmfs/NAME`."""
        self._urls = dict(urls)
        self._heads: dict[str, Head] = {}
        self._left: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._workers: list[threading.Thread] = []
        self._next_round = 0.0

    def has(self, name: str) -> bool:
        """Tells whether the stratum 0 of a replica is known."""
        return name in self._urls

    def head(self, name: str) -> Head | None:
        """Returns what was heard last; None until there was an answer."""
        return self._heads.get(name)

    def ask(self) -> None:
        """Begins a round of questions, unless the last one is young or still under way."""
        if time.monotonic() < self._next_round or any(worker.is_alive() for worker in self._workers):
            return
        self._next_round = time.monotonic() + ASK_AGAIN_S
        for name in self._urls:
            self._left.put(name)
        count = min(WORKERS, len(self._urls))
        self._workers = [threading.Thread(target=self._work, name="ask stratum 0", daemon=True) for _ in range(count)]
        for worker in self._workers:
            worker.start()

    def _work(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                name = self._left.get_nowait()
                self._heads[name] = ask_for_head(self._urls[name])


def ask_for_head(url: str) -> Head:
    """Returns what the manifest at `url` says; blocks for some ten seconds at most."""
    now = int(time.time())
    # A proxy would tell what it heard a while ago.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        fields = signing.parse_manifest(_fetch(opener, f"{url}/.cvmfspublished")).fields
    except Corrupt:
        return Head(now, trouble="it sent a damaged manifest")
    except urllib.error.HTTPError as problem:
        return Head(now, trouble=f"it answered with HTTP status {problem.code}")
    except (OSError, ValueError, http.client.HTTPException):
        # Not the error's text: it may name what is nobody's business on a public page.
        return Head(now, trouble="it does not answer")
    return Head(now, fields.revision, fields.timestamp or None)


def _fetch(opener: urllib.request.OpenerDirector, url: str) -> bytes:
    """Returns the body at `url`. Raises OSError, or ValueError for what is too large."""
    deadline = time.monotonic() + QUESTION_LIMIT_S
    content = b""
    with opener.open(url, timeout=QUESTION_LIMIT_S) as answer:
        while part := answer.read1(_PIECE_BYTES):
            content += part
            if len(content) > _MANIFEST_LIMIT_BYTES:
                raise ValueError("a manifest is smaller")
            if time.monotonic() > deadline:
                raise TimeoutError("the manifest comes too slowly")
    return content
