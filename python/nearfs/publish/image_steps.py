"""Several changes stored one above the other, of which only the last becomes visible: one revision for readers.

Owns the chain of stored revisions, and the archives that describe what is added by name. Does not own: what changes
(`images`), how the last one becomes visible (`finishing`), the lock.
Threading: one command at a time, under the repository's publishing lock; the engine works beside the main thread.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from typing import TYPE_CHECKING, cast

from nearfs.publish import finishing, transaction
from nearfs.publish.image_layers import Streaming
from nearfs.publish.looking import Looking

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nearfs._native import Progress
    from nearfs.publish import statistics
    from nearfs.publish.image_source import Layer
    from nearfs.publish.repository import Repository
    from nearfs.records import Committed, PublishRequest, Target
    from nearfs.signing import ManifestFields

_DIRECTORY_MODE, _FILE_MODE = 0o755, 0o644


class Steps:
    """Revisions stored one above the other, of which only the last becomes visible."""

    def __init__(self, repository: Repository, root_hash: str, progress: Progress) -> None:
        self._repository, self._root_hash, self._progress = repository, root_hash, progress
        self._options = transaction.PublishOptions()
        self._now_s = int(time.time())
        self._stored: list[Committed] = []

    def add(self, entries: dict[str, bytes | str]) -> None:
        """Adds files (content), links (target) and directories (an empty text), all of them root's."""
        if not entries:
            return
        with tempfile.TemporaryFile() as scratch:
            with tarfile.open(fileobj=scratch, mode="w", format=tarfile.GNU_FORMAT) as archive:
                for path, what in entries.items():
                    archive.addfile(*self._member(path, what))
            scratch.flush()
            self._publish(f"/proc/self/fd/{scratch.fileno()}", "/", makes_catalog=False)

    def _member(self, path: str, what: bytes | str) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
        member = tarfile.TarInfo(path.lstrip("/"))
        member.mtime = self._now_s
        if isinstance(what, bytes):
            member.mode, member.size = _FILE_MODE, len(what)
            return member, io.BytesIO(what)
        member.type, member.linkname = (tarfile.SYMTYPE, what) if what else (tarfile.DIRTYPE, "")
        member.mode = _DIRECTORY_MODE
        return member, None

    def unpack(self, layer: Layer, directory: str) -> None:
        """Puts a layer above what a directory has: its whiteouts take away, its directories hide or join."""
        before = self._root_hash
        with Streaming(layer) as streaming:
            self._publish(streaming.path, directory, makes_catalog=True)
        if streaming.unsaid:
            # In an archive they would be nobody's; in an image, root's, unless a layer below has them.
            with Looking(self._repository.storage, before) as below:
                paths = sorted(f"{directory}/{name}" for name in streaming.unsaid)
                self.add(dict.fromkeys((path for path in paths if not below.is_directory(path)), ""))

    def copy(self, source: str, target: str) -> None:
        """Copies a directory without touching its contents."""
        from nearfs import _native

        storage, request = str(self._repository.storage), self._request("")
        self._take(_native.copy_directory(storage, source=source.encode(), target=target.encode(), request=request))

    def delete(self, paths: Sequence[str]) -> None:
        """Removes what is at the paths, and below."""
        self._publish("", "/", makes_catalog=False, deletions=paths)

    def finish(
        self, present: ManifestFields, *, statistics_of: statistics.Counted, say: Callable[[str], None]
    ) -> Committed:
        """Makes the last revision the newest; returns it with the sums of all steps."""
        references = [(committed["root_hash"], "C") for committed in self._stored[:-1]]
        last = self._stored[-1]
        finished = finishing.finish(
            self._repository, last, self._now_s, present, self._options, say, mounts=False, references=references
        )
        summed = self._summed(finished)
        statistics_of.committed(summed)
        return summed

    def _publish(self, source: str, path: str, *, makes_catalog: bool, deletions: Sequence[str] = ()) -> None:
        from nearfs import _native

        target: Target = {
            "kind": "archive" if source else "nothing",
            "path": path.rstrip("/").encode(),
            "deletions": [deletion.encode("utf-8", "surrogateescape") for deletion in deletions],
            "owner": None,
            "makes_catalog": makes_catalog,
            "mirrors": False,
        }
        storage, request = str(self._repository.storage), self._request(source)
        self._take(
            transaction.beside_main(
                lambda: _native.publish_into(storage, progress=self._progress, target=target, request=request),
                self._progress,
            )
        )

    def _request(self, source: str) -> PublishRequest:
        request = transaction.request(
            self._repository, self._options, self._root_hash, self._now_s, source=source, is_overlay=False
        )
        request["include_xattrs"] = True  # file capabilities
        return request

    def _take(self, committed: Committed) -> None:
        self._stored.append(committed)
        self._root_hash = committed["root_hash"]

    def _summed(self, finished: Committed) -> Committed:
        total = dict(finished)
        for name in ("objects_new", "bytes_new", "objects_reused", "bytes_added", "catalogs_new", "entries_added",
                     "entries_removed", "entries_changed"):  # fmt: skip
            total[name] = sum(cast("dict[str, int]", committed)[name] for committed in self._stored)
        counted = {key for committed in self._stored for key in committed["counts"]}
        total["counts"] = {key: sum(committed["counts"].get(key, 0) for committed in self._stored) for key in counted}
        total["warnings"] = [warning for committed in self._stored for warning in committed["warnings"]]
        return cast("Committed", total)
