"""Creates and removes repositories, lists and describes them: mkfs, rmfs, list, info, mount.

Owns: questions, confirmations and the words of the output (server.md 3.1, 3.10, 3.16, 3.18).
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import datetime as dt
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.cli.asking import confirm
from nearfs.config import syntax
from nearfs.errors import NearfsError, NotFound
from nearfs.publish import acting, branches, creation, healing, importing, moments
from nearfs.publish.places import Places
from nearfs.publish.repository import ANY_ROLE, LAYOUT_REVISION, Repository

if TYPE_CHECKING:
    from collections.abc import Sequence


_METAINFO_LIMIT_BYTES = 1 << 20


def ask_owner(fqrn: str) -> str:
    """Asks who shall own a new repository; no answer means the caller."""
    try:
        caller = getpass.getuser()
    except (KeyError, OSError):  # a user that no table knows
        caller = str(os.getuid())
    output.prompt(f"Owner of {fqrn} [{caller}]: ")
    return sys.stdin.readline().strip() or caller


def mkfs(wanted: creation.NewRepository) -> int:
    """Creates a repository and says how to go on."""
    if wanted.garbage_collectable and wanted.auto_tag:
        output.line("Note: Autotagging all revisions impedes garbage collection")
    if wanted.auto_tag_timespan:
        output.line(f"Auto Tags are set to disappear after {wanted.auto_tag_timespan}")
    repository = creation.create(wanted, Places.here(), output.step)
    output.line(
        f"""
Before you can install anything, call `cvmfs_server transaction`
to enable write access on your repository. Then install your
software in {repository.union} as user {wanted.owner}.
Once you're happy, publish using `cvmfs_server publish`
to apply your changes.

For client configuration, have a look at 'cvmfs_server info'

If you go for production, backup your masterkey from {repository.places.keys}!"""
    )
    return 0


def alterfs(name: str, *, replicable: bool) -> int:
    """Allows replicas of a repository, or forbids them."""
    with output.step(f"{'Allowing' if replicable else 'Disallowing'} Replication of this Repository"):
        creation.set_replicable(Repository.load(name), replicable=replicable)
    return 0


def migrate(names: Sequence[str]) -> int:
    """Says that repositories are up to date; one of another layout is refused with the way out."""
    for name in names:
        output.line(f"Repository '{Repository.load(name).fqrn}' is already up-to-date.")
    return 0


def import_repository(wanted: importing.Importing) -> int:
    """Makes stored revisions a repository of this machine."""
    repository = importing.run(wanted, Places.here(), output.step)
    number = repository.manifest().fields.revision
    output.line(f"Repository {repository.fqrn} is imported at revision {number}; see {repository.union}")
    return 0


def rmfs(names: Sequence[str], *, keep_content: bool, force: bool) -> int:
    """Removes repositories, each after a confirmation."""
    for name in names:
        question = f"You are about to WIPE OUT THE CERNVM-FS REPOSITORY {name} INCLUDING SIGNING KEYS!"
        if keep_content:
            question = f"You are about to REMOVE THE CERNVM-FS REPOSITORY INFRASTRUCTURE for {name}!"
        if not force and not confirm(f"{question}  Are you sure (y/N)? "):
            continue
        creation.remove(name, Places.here(), keep_content=keep_content, step=output.step)
        output.line(f"CernVM-FS repository {name} wiped out!")
    return 0


def list_repositories() -> int:
    """Prints one line a repository, with what is unusual about it."""
    places = Places.here()
    for name in Repository.all_names(places):
        try:
            _list(name)
        except NearfsError as error:
            layout = _layout(places, name)
            if layout:
                output.line(f"{name} (stratum0 / local) (created with INCOMPATIBLE layout revision {layout})")
            else:
                output.line(f"{name} (stratum0 / local) - unhealthy: {error}")
    return 0


def _layout(places: Places, name: str) -> str:
    """Returns the layout revision of a repository that has another one than ours, empty for ours."""
    parsed = syntax.parse_shell(str(places.repositories / name / "server.conf"), {})
    found = dict(parsed.values).get("CVMFS_CREATOR_VERSION", "") if parsed else LAYOUT_REVISION
    return "" if found == LAYOUT_REVISION else found or "unknown"


@acting.by_owner_of_any
def _list(repository: Repository) -> int:
    output.line(_listed(repository))
    return 0


def _listed(repository: Repository) -> str:
    facts = f"{repository.name} ({'stratum1' if repository.is_replica else 'stratum0'} / local"
    if repository.is_in_transaction:
        facts += " - in transaction"
    whitelist = repository.whitelist()
    if whitelist is None:
        facts += " - whitelist unreachable"
    elif whitelist.is_expired(dt.datetime.now(dt.UTC)):
        facts += " - whitelist expired"
    if not repository.is_replica and healing.health(repository):
        facts += " - unhealthy"
    real_name = f" -> {repository.fqrn}" if repository.alias else ""
    return f"{facts}{_checked_out(repository)}){real_name}"


def _checked_out(repository: Repository) -> str:
    """Returns the tag and branch that the spool's note names: tag, root hash, branch, branch before."""
    checkout = branches.current(repository)
    if checkout is None:
        return ""
    return f" [checked out tag '{checkout.tag}' on branch '{branches.shown(checkout.branch)}']"


def metainfo(name: str) -> int:
    """Prints the description of a repository, JSON that its publisher wrote."""
    from nearfs import _native

    repository = Repository.load(name, roles=ANY_ROLE)
    found = repository.manifest().fields.meta_info
    if found is None:
        message = f"{repository.name} has no metainfo (cvmfs_server update-repoinfo)"
        raise NotFound(message, operation="info", subject=repository.name, exit_code=1)
    text = _native.read_object(str(repository.storage), found, suffix="M", limit=_METAINFO_LIMIT_BYTES)
    output.line(text.decode("utf-8", "replace").rstrip("\n"))
    return 0


def _say_statistics(repository: Repository) -> None:
    """Prints how much is in the newest revision, and when it was made."""
    from nearfs import _native

    fields = repository.manifest().fields
    revision, last_modified_s, size = _native.catalog_facts(str(repository.storage), fields.root_hash)
    output.line(f"Revision: {revision}")
    output.line(f"Published: {moments.written(last_modified_s)}")
    output.line(f"Root catalog: {fields.root_hash}, {size} bytes")
    output.line()


def info(name: str, *, keys: str = "", with_statistics: bool = False) -> int:
    """Prints what an administrator of clients needs to know; `keys` is the directory of the public key."""
    repository = Repository.load(name)
    whitelist = repository.whitelist()
    now = dt.datetime.now(dt.UTC)
    if whitelist is None or whitelist.is_expired(now):
        validity = "Whitelist is expired"
    else:
        validity = f"Whitelist is valid for another {whitelist.days_left(now)} days"
    replicable = (repository.storage / ".cvmfs_master_replica").exists()
    output.line(f"Repository name: {repository.fqrn}")
    output.line(f"Created by CernVM-FS {LAYOUT_REVISION}")
    output.line(f"Stratum1 replication allowed: {'yes' if replicable else 'no'}")
    output.line(validity)
    output.line()
    if with_statistics:
        _say_statistics(repository)
    output.line("Client configuration:")
    output.line(f"Add {repository.fqrn} to CVMFS_REPOSITORIES in /etc/cvmfs/default.local")
    output.line(f"Create /etc/cvmfs/config.d/{repository.fqrn}.conf and set")
    output.line(f"  CVMFS_SERVER_URL={repository.text('CVMFS_STRATUM0')}")
    key = (Path(keys) if keys else repository.places.keys) / f"{repository.fqrn}.pub"
    output.line(f"  CVMFS_PUBLIC_KEY={key}")
    output.line(f"Copy {key} to the client")
    return 0


def mount(names: Sequence[str]) -> int:
    """Puts the mounts of repositories right, after a reboot or a crash; silent when all is well.

    One that cannot be mounted does not keep the others from it.
    """
    failed = 0
    for name in names:
        try:
            _mount_one(name)
        except NearfsError as error:
            if len(names) == 1:
                raise
            output.complain(f"{name}: {error}")
            failed = 1
    return failed


@acting.by_owner
def _mount_one(repository: Repository) -> int:
    repository.check_owner()
    for problem in healing.health(repository):
        output.complain(problem)
    for done in healing.heal_exclusively(repository):
        output.complain(f"Note: {done}")
    return 0
