"""Going back: an old revision becomes the newest one (server.md 3.8, format.md 6.4).

Owns: which revision is gone back to, what may not be, and what becomes of the tags. Does not own: the root catalog (the
engine), and how it becomes visible (`editing`).
Threading: one command at a time, under the repository's publishing lock.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nearfs.errors import InvalidInput, NotFound, Unsupported
from nearfs.publish import editing, interrupts, tags

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearfs.publish.repository import Repository
    from nearfs.records import Committed, Tag
    from nearfs.signing import ManifestFields


def target_of(repository: Repository, name: str) -> Tag:
    """Returns the tag that a rollback goes back to, `trunk-previous` where no name is given.

    Raises `NotFound` for a tag that does not exist, `InvalidInput` for one that cannot be gone back to.
    """
    found = {tag["name"]: tag for tag in tags.listed(repository)}.get(name or tags.UNDO)
    if found is None and not name:
        raise _refused("More than one anonymous undo rollback is not supported. Please specify a tag name (-t)")
    if found is None:
        message = f"Target tag '{name}' does not exist"
        raise NotFound(message, operation="roll back", subject=name, exit_code=1)
    if found["branch"]:
        raise _refused("rollback is only supported on the default branch")
    present = repository.manifest().fields
    if found["revision"] >= present.revision:
        raise _refused(f"not rolling back to current head ({present.revision})")
    return found


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message, operation="roll back", exit_code=1)


def roll_back(repository: Repository, name: str, say: Callable[[str], None]) -> Committed:
    """Makes the revision of a tag the newest one, under the next number; its own tags stay, later ones go."""
    with editing.exclusive(
        repository,
        in_transaction="Cannot rollback a repository in a transaction",
        publishing=f"Repository {repository.fqrn} is currently being published",
        checked_out="Can't rollback when checked out on a branch",
    ) as present:
        target = target_of(repository, name)
        say(f"Rolling back repository (leaving behind {present.root_hash})")
        now_s = int(time.time())
        committed = _store_root(repository, target, present, now_s)
        history = _store_tags(repository, target, committed, present, now_s, say)
        with interrupts.held_off():
            editing.show(repository, committed, history, present, say)
        return committed


def _store_root(repository: Repository, target: Tag, present: ManifestFields, now_s: int) -> Committed:
    from nearfs import _native

    try:
        return _native.roll_back(
            str(repository.storage),
            target=target["root_hash"],
            head=present.root_hash,
            revision=present.revision + 1,
            hash_algorithm=repository.hash_algorithm.value,
            now_s=now_s,
        )
    except Unsupported as error:
        message = f"not rolling back to outdated and incompatible catalog schema: {error}"
        raise Unsupported(message, operation="roll back", subject=target["name"], exit_code=1) from error


def _store_tags(
    repository: Repository,
    target: Tag,
    committed: Committed,
    present: ManifestFields,
    now_s: int,
    say: Callable[[str], None],
) -> str:
    """Stores the history after the rollback: what was published after the target has no name any more."""
    from nearfs import _native

    listed = tags.listed(repository)
    later = [tag for tag in listed if not tag["branch"] and tag["revision"] > target["revision"]]
    for tag in later:
        say(f"removed tag {tag['name']} ({tag['root_hash']})")
    head = tags.head_of(committed, now_s)
    # The anonymous undo goes back to `trunk-previous`, which is managed: there is nothing to put back.
    named = [] if target["name"] == tags.UNDO else [{**head, **_identity(target)}]
    return _native.edit_tags(
        str(repository.storage),
        history=present.history,
        fqrn=repository.fqrn,
        hash_algorithm=repository.hash_algorithm.value,
        remove=[*(tag["name"] for tag in later), target["name"]],
        add=named,  # type: ignore[arg-type]  # a spread of a TypedDict loses its type
        head=head,
    )


def _identity(tag: Tag) -> dict[str, str]:
    return {"name": tag["name"], "description": tag["description"], "branch": tag["branch"]}
