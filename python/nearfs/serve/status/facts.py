"""Owns what the files of one repository say of its state, read anew and bounded (format.md 2, 3.1, 8.1).

Nothing here is proof of anything: signatures are the clients' matter. Does not own what is a problem (`problems`).
Safe in any thread; blocks on the file system.
"""

import json
from dataclasses import dataclass, field

from nearfs import signing, whitelist
from nearfs.errors import Corrupt
from nearfs.serve import names
from nearfs.serve.roots import Roots
from nearfs.serve.status import dates

_SIGNED_LIMIT_BYTES = 1 << 20
_SMALL_LIMIT_BYTES = 64 << 10


@dataclass(frozen=True)
class Facts:
    """One repository. Times are Unix seconds, None where no file tells; `faults` says what is wrong with files."""

    name: str
    fqrn: str = ""
    revision: int | None = None
    root_hash: str | None = None
    published: int | None = None
    ttl_s: int | None = None
    is_garbage_collectable: bool = False
    whitelist_expires: int | None = None
    is_master: bool = False
    last_snapshot: int | None = None
    snapshotting_since: int | None = None
    last_gc: int | None = None
    last_check: int | None = None
    has_failed_check: bool = False
    faults: tuple[str, ...] = field(default=())

    @property
    def is_replica(self) -> bool:
        """Whether it is replicated here: a master copy says that it is one, and a replica when it was made."""
        return not self.is_master and (self.last_snapshot is not None or self.snapshotting_since is not None)


class _Files:
    """The marker files of one repository."""

    def __init__(self, roots: Roots, name: str) -> None:
        self._roots = roots
        self._name = name
        self.faults: list[str] = []

    def read(self, marker: str, limit_bytes: int = _SMALL_LIMIT_BYTES) -> bytes | None:
        """Returns a file's content; None where there is none, or it is to be told among the faults."""
        try:
            opened = self._roots.open(names.marker_of(self._name, marker))
            if opened is None:
                return None
            try:
                if opened.size > limit_bytes:
                    self.faults.append(f"{marker} is larger than {limit_bytes} bytes")
                    return None
                return opened.read(0, opened.size)
            finally:
                opened.close()
        except OSError as problem:
            self.faults.append(f"{marker} cannot be read: {problem.strerror or problem}")
            return None

    def date(self, marker: str) -> int | None:
        """Returns the date that a file holds; 0 where the file is there and its date is no date."""
        content = self.read(marker)
        if content is None:
            return None
        moment = dates.parse(content.decode("utf-8", "replace"))
        return 0 if moment is None else moment

    def texts(self, marker: str) -> dict[str, str]:
        """Returns the texts of a JSON object; none where it is missing or damaged."""
        try:
            document = json.loads(self.read(marker) or b"{}")
        except (ValueError, RecursionError):
            self.faults.append(f"{marker} is no JSON")
            return {}
        values = document.items() if isinstance(document, dict) else ()
        return {key: value for key, value in values if isinstance(value, str)}


def gather(roots: Roots, name: str) -> Facts:
    """Returns the facts of the repository that is served as `name`."""
    files = _Files(roots, name)
    fields, expires = _manifest(files), _whitelist_expiry(files)
    status = files.texts(".cvmfs_status.json")
    last_snapshot, snapshotting = files.date(".cvmfs_last_snapshot"), files.date(".cvmfs_is_snapshotting")
    return Facts(
        name=name,
        fqrn=fields.name if fields else "",
        revision=fields.revision if fields else None,
        root_hash=fields.root_hash if fields else None,
        published=(fields.timestamp or None) if fields else None,
        ttl_s=fields.ttl_s if fields else None,
        is_garbage_collectable=fields.garbage_collectable if fields else False,
        whitelist_expires=expires,
        is_master=files.read(".cvmfs_master_replica") is not None,
        last_snapshot=last_snapshot,
        snapshotting_since=snapshotting,
        last_gc=dates.parse(status.get("last_gc", "")),
        last_check=dates.parse(status.get("last_check", "")),
        has_failed_check=status.get("check_status") == "failed",
        faults=tuple(files.faults),
    )


def _manifest(files: _Files) -> signing.ManifestFields | None:
    content = files.read(".cvmfspublished", _SIGNED_LIMIT_BYTES)
    try:
        return None if content is None else signing.parse_manifest(content).fields
    except Corrupt as problem:
        files.faults.append(str(problem))
        return None


def _whitelist_expiry(files: _Files) -> int | None:
    content = files.read(".cvmfswhitelist", _SIGNED_LIMIT_BYTES)
    try:
        return None if content is None else int(whitelist.parse_whitelist(content).expires.timestamp())
    except Corrupt as problem:
        files.faults.append(str(problem))
        return None
