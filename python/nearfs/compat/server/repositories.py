"""The life of a repository as a whole: mkfs, rmfs, list, info, mount.

Owns: their options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import repository_cmd
from nearfs.compat.server.words import UsageError, Words
from nearfs.publish.creation import NewRepository
from nearfs.publish.places import Places
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence


def mkfs(words: Sequence[str]) -> int:
    """Creates a repository."""
    options = Words("mkfs", words, "w:u:o:mf:vgG:a:zs:k:RZ:pV:Xx:")
    for flag, feature in (
        ("-G", "expiring automatic tags"),
        ("-u", "other storage"),
        ("-s", "S3 storage"),
        ("-R", "master key cards"),
    ):
        if options.has(flag):
            raise UsageError(f"Command mkfs: option {flag} ({feature}) is not available in this version")
    for flag, feature in (("-V", "membership"), ("-X", "external data"), ("-x", "a proxy")):
        if options.has(flag):
            raise UsageError(f"Command mkfs: option {flag} ({feature}) is not available in this version")
    if options.value("-f") not in ("", "overlayfs"):
        raise UsageError("Command mkfs: only overlayfs is available (-f)")
    if not options.rest:
        raise UsageError("Please provide a repository name")
    fqrn = options.one()
    wanted = NewRepository(
        fqrn=fqrn,
        owner=options.value("-o") or repository_cmd.ask_owner(fqrn),
        stratum0_url=options.value("-w"),
        hash_algorithm=options.value("-a") or "sha1",
        compression=options.value("-Z") or "default",
        auto_tag=not options.has("-g"),
        auto_tag_timespan=options.value("-G"),
        garbage_collectable=options.has("-z"),
        volatile=options.has("-v"),
        configure_apache=not options.has("-p"),
        import_keys_from=options.value("-k"),
    )
    return repository_cmd.mkfs(wanted)


def mount(words: Sequence[str]) -> int:
    """Restores mounts."""
    options = Words("mount", words, "a")
    names = Repository.all_names(Places.here()) if options.has("-a") else options.several()
    return repository_cmd.mount(names)


def rmfs(words: Sequence[str]) -> int:
    """Removes repositories."""
    options = Words("rmfs", words, "pf")
    if not options.rest:
        raise UsageError("Please provide a repository name")
    return repository_cmd.rmfs(options.several(), keep_content=options.has("-p"), force=options.has("-f"))


def list_all(_words: Sequence[str]) -> int:
    """Lists the repositories of this machine."""
    return repository_cmd.list_repositories()


def info(words: Sequence[str]) -> int:
    """Describes a repository."""
    return repository_cmd.info(Words("info", words, "").one())
