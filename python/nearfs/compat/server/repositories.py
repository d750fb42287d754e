"""The life of a repository as a whole: mkfs, import, rmfs, alterfs, migrate, list, info, mount.

Owns: their options. Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.cli import repository_cmd
from nearfs.compat.server.words import UsageError, Words
from nearfs.errors import InvalidInput
from nearfs.publish import importing
from nearfs.publish.creation import NewRepository
from nearfs.publish.places import Places
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence


def mkfs(words: Sequence[str]) -> int:
    """Creates a repository."""
    options = Words("mkfs", words, "w:u:o:mf:vgG:a:zs:k:RZ:pV:Xx:")
    if options.has("-R"):
        raise UsageError("Command mkfs: option -R (master key card) is not available in this version")
    if options.has("-s"):
        raise UsageError("Command mkfs: option -s (S3 storage) is not available in this version; local storage is")
    if options.value("-f") == "aufs":
        raise InvalidInput("AUFS is not available in this version (-f overlayfs)", operation="mkfs", exit_code=1)
    if options.value("-f") not in ("", "overlayfs"):
        raise UsageError(f"Command mkfs: unknown union file system {options.value('-f')} (-f overlayfs)")
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
        membership=options.value("-V"),
        external=options.has("-X"),
        proxy=options.value("-x"),
        storage=storage_of(options.value("-u")),
    )
    return repository_cmd.mkfs(wanted)


def import_repository(words: Sequence[str]) -> int:
    """Takes over a repository whose storage and keys are here already."""
    options = Words("import", words, "w:o:u:lsmgf:c:k:rtRpx:")
    if options.has("-l", "-s", "-c"):
        raise UsageError(
            "Command import: repositories of 2.0 (-l, -s, -c) have to be imported with cvmfs_server 2.12 first"
        )
    if options.has("-R"):
        raise UsageError("Command import: option -R (master key card) is not available in this version")
    if options.value("-f") not in ("", "overlayfs"):
        raise UsageError("Command import: only overlayfs is available (-f)")
    if not options.rest:
        raise UsageError("Please provide a repository name")
    fqrn = options.one()
    new = NewRepository(
        fqrn=fqrn,
        owner=options.value("-o") or repository_cmd.ask_owner(fqrn),
        stratum0_url=options.value("-w"),
        configure_apache=not options.has("-p"),
        import_keys_from=options.value("-k"),
        proxy=options.value("-x"),
        storage=storage_of(options.value("-u")),
    )
    wanted = importing.Importing(new, renew_whitelist=options.has("-r"), renew_key=options.has("-t"))
    return repository_cmd.import_repository(wanted)


def storage_of(upstream: str) -> str:
    """Returns the directory of `local,<temporary directory>,<directory>`, empty for the default."""
    kind, *places = upstream.split(",")
    if upstream and kind in ("S3", "s3", "gw"):
        raise UsageError(f"Command mkfs: upstream storage {kind} is not available in this version, only local storage")
    if upstream and not (kind == "local" and len(places) == 2 and all(place.startswith("/") for place in places)):
        raise UsageError(f"Command mkfs: '{upstream}' is not local,<temporary directory>,<directory> (-u)")
    return places[1].rstrip("/") if upstream else ""


def alterfs(words: Sequence[str]) -> int:
    """Allows or forbids replicas."""
    options = Words("alterfs", words, "m:")
    if options.value("-m") not in ("on", "off"):
        raise UsageError("Command alterfs: say whether replicas are allowed: -m on or -m off")
    return repository_cmd.alterfs(options.one(), replicable=options.value("-m") == "on")


def migrate(words: Sequence[str]) -> int:
    """Says that repositories have the present layout; older ones are refused when they are loaded."""
    return repository_cmd.migrate(Words("migrate", words, "").several())


def mount(words: Sequence[str]) -> int:
    """Restores mounts."""
    options = Words("mount", words, "a")
    names = Repository.master_names(Places.here()) if options.has("-a") else options.several()
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
    options = Words("info", words, "k:ms")
    if options.has("-m"):
        return repository_cmd.metainfo(options.one())
    return repository_cmd.info(options.one(), keys=options.value("-k"), with_statistics=options.has("-s"))
