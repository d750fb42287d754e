"""The two lines of a repository in /etc/fstab (server.md 2.4).

Owns: adding and removing them. They let `mount`, the reference tools and administrators know the mounts; `noauto`, so
nothing happens at boot. Threading: root's commands, one at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs import files
from nearfs.publish import ownership

if TYPE_CHECKING:
    from nearfs.publish.repository import Repository


def _mark(repository: Repository) -> str:
    return f"# added by CernVM-FS for {repository.fqrn}"


def lines(repository: Repository) -> list[str]:
    """Returns the two lines: the revision below, and the union."""
    fqrn, spool = repository.fqrn, repository.spool
    configuration = f"{repository.configuration / 'client.conf'}:{spool / 'client.local'}"
    lower = f"allow_other,fsname={fqrn},config={configuration},cvmfs_suid,noauto"
    layers = f"upperdir={repository.scratch},lowerdir={repository.read_only},workdir={repository.work}"
    mark = _mark(repository)
    owner = ownership.owner(repository)
    kind = "overlay" if owner is None or owner.pw_uid == 0 else "fuse.fuse-overlayfs"
    return [
        f"cvmfs2#{fqrn} {repository.read_only} fuse {lower} 0 0 {mark}",
        f"overlay_{fqrn} {repository.union} {kind} {layers},noauto,nodev,ro 0 0 {mark}",
    ]


def add(repository: Repository) -> None:
    """Puts the lines into the table, replacing older ones of this repository."""
    _write(repository, lines(repository))


def remove(repository: Repository) -> None:
    """Takes the lines out of the table."""
    if repository.places.fstab.exists():
        _write(repository, [])


def _write(repository: Repository, new: list[str]) -> None:
    table = repository.places.fstab
    present = table.read_text(encoding="utf-8", errors="surrogateescape") if table.exists() else ""
    kept = [line for line in present.splitlines() if not line.endswith(_mark(repository))]
    if kept + new == present.splitlines():
        return
    table.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in kept + new)
    files.replace(table, text.encode("utf-8", "surrogateescape"))
