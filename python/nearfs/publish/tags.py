"""Tags: names for revisions, in a history object that the manifest names (format.md 6, server.md 3.7).

Owns: which tags a publish makes, adding, removing and moving tags, and the rules for their names. Does not own: the
database (the engine) and what is printed.
Threading: edits are made by one command at a time, under the repository's publishing lock.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.errors import InvalidInput, NotFound
from nearfs.publish import editing, moments, revision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from nearfs.publish.branches import Checkout
    from nearfs.publish.repository import Repository
    from nearfs.publish.transaction import PublishOptions
    from nearfs.records import Committed, Tag
    from nearfs.signing import ManifestFields

HEAD, UNDO = "trunk", "trunk-previous"
_NAME = re.compile(r"[A-Za-z0-9_./:-]+")
# Old publishers wrote fractions of a second.
_AUTOMATIC = re.compile(r"generic(_\d+)?-\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{3})?Z")


@dataclass(frozen=True)
class Named:
    """The history of a new revision, and (hash, suffix) of what it replaced within the same publish."""

    history: str
    references: list[tuple[str, str]]


def listed(repository: Repository) -> list[Tag]:
    """Returns the tags, newest first."""
    from nearfs import _native

    history = repository.manifest().fields.history
    return _native.list_tags(str(repository.storage), history=history, fqrn=repository.fqrn)


def listed_branches(repository: Repository) -> list[tuple[str, str, int]]:
    """Returns the branches beside the default one: name, the branch that each left, its first revision."""
    from nearfs import _native

    history = repository.manifest().fields.history
    return _native.list_branches(str(repository.storage), history=history, fqrn=repository.fqrn)


def check_name(name: str) -> None:
    """Raises `InvalidInput` if a name cannot be a tag's."""
    if " " in name:
        raise _refused("tag names must not contain spaces")
    if not _NAME.fullmatch(name):
        raise _refused(f"invalid tag name '{name}': only a-z A-Z 0-9 - _ . / : are allowed")


def check_description(text: str) -> None:
    """Raises `InvalidInput` if a description cannot be stored: bytes of the command line that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refused(f"the message of a tag is not UTF-8 text: {text!r}") from None


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message, operation="edit tags", exit_code=1)


def check_new_name(repository: Repository, name: str, history: str | None) -> None:
    """Refuses, before a publish, a name that cannot be given to the new revision."""
    from nearfs import _native

    if not name:
        return
    if " " in name:
        raise _refused("Spaces are not allowed in tag names")
    check_name(name)
    taken = {tag["name"] for tag in _native.list_tags(str(repository.storage), history=history, fqrn=repository.fqrn)}
    if name in taken or name in (HEAD, UNDO):
        raise _refused(f"Tag name '{name}' is already in use.")


def after_publish(
    repository: Repository,
    committed: Committed,
    committed_s: int,
    history: str | None,
    options: PublishOptions,
    say: Callable[[str], None],
) -> Named:
    """Stores the history of a new revision: its own tag, `trunk` and `trunk-previous`, outdated automatic tags gone.

    `committed_s` is the time that the root catalog bears: a tag bears the same.
    """
    from nearfs import _native

    history, references = _without_outdated(repository, history, say)
    present = _native.list_tags(str(repository.storage), history=history, fqrn=repository.fqrn)
    head = head_of(committed, committed_s)
    new = []
    if options.tag:
        new.append({**head, "name": options.tag, "description": options.message})
    elif repository.is_on("CVMFS_AUTO_TAG", default=True):
        name = automatic_name({tag["name"] for tag in present}, time.gmtime(committed_s))
        say(f"Using auto tag '{name}'")
        new.append({**head, "name": name, "description": ""})
    say(f"Tagging {repository.fqrn}")
    named = _native.edit_tags(
        str(repository.storage),
        history=history,
        fqrn=repository.fqrn,
        hash_algorithm=repository.hash_algorithm.value,
        remove=[],
        add=new,  # type: ignore[arg-type]  # a spread of a TypedDict loses its type
        head=head,
    )
    return Named(named, references)


def after_branch_publish(
    repository: Repository,
    committed: Committed,
    committed_s: int,
    history: str | None,
    options: PublishOptions,
    checkout: Checkout,
) -> str:
    """Stores the history with the tag of a revision on a branch, and the branch if it is new; returns its hash.

    The undo tags stay: they are of the default branch.
    """
    from nearfs import _native

    known = {name for name, _, _ in listed_branches(repository)}
    is_new = checkout.branch not in known
    named = {"name": options.tag, "description": options.message, "branch": checkout.branch}
    return _native.edit_tags(
        str(repository.storage),
        history=history,
        fqrn=repository.fqrn,
        hash_algorithm=repository.hash_algorithm.value,
        remove=[],
        add=[{**head_of(committed, committed_s), **named}],  # type: ignore[typeddict-item]  # a spread loses its type
        head=None,
        branch=(checkout.branch, checkout.previous_branch, committed["revision"]) if is_new else None,
    )


def _without_outdated(
    repository: Repository, history: str | None, say: Callable[[str], None]
) -> tuple[str | None, list[tuple[str, str]]]:
    """Removes automatic tags that `CVMFS_AUTO_TAG_TIMESPAN` says are too old, in a history of its own (format.md 6.2).

    Returns the history to go on with, and that history as a reference for the log if it is a new one.
    """
    from nearfs import _native

    expression = repository.text("CVMFS_AUTO_TAG_TIMESPAN")
    if not expression or history is None:
        return history, []
    since_s = moments.parse(expression)
    present = _native.list_tags(str(repository.storage), history=history, fqrn=repository.fqrn)
    outdated = [tag["name"] for tag in present if _AUTOMATIC.fullmatch(tag["name"]) and tag["timestamp"] < since_s]
    if not outdated:
        return history, []
    say(f"Removing outdated automatically generated tags for {repository.fqrn}...")
    shorter = _native.edit_tags(
        str(repository.storage),
        history=history,
        fqrn=repository.fqrn,
        hash_algorithm=repository.hash_algorithm.value,
        remove=outdated,
        add=[],
        head=None,
    )
    return shorter, [(shorter, "H")]


def head_of(committed: Committed, committed_s: int) -> Tag:
    """Returns the tag `trunk` of a new revision."""
    return {
        "name": HEAD,
        "root_hash": committed["root_hash"],
        "size": committed["root_size"],
        "revision": committed["revision"],
        "timestamp": committed_s,
        "branch": "",
        "description": "current HEAD",
    }


def automatic_name(taken: set[str], moment: time.struct_time) -> str:
    """Returns `generic-<UTC time>`, or `generic_2-<UTC time>` and so on where that is taken."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)
    name, number = f"generic-{stamp}", 1
    while name in taken:
        number += 1
        name = f"generic_{number}-{stamp}"
    return name


def add(repository: Repository, name: str, *, message: str = "", root_hash: str = "") -> str:
    """Gives a name to a revision, or moves it; returns the sentence to say, empty where there is none."""
    from nearfs import _native

    check_name(name)
    check_description(message)
    if name in (HEAD, UNDO):
        raise _refused("undo tags are managed internally")
    with _editing(repository) as present:
        present_tags = listed(repository)
        found = {tag["name"]: tag for tag in present_tags}.get(name)
        if found and not root_hash:
            raise _refused(f"a tag with the name '{name}' already exists. Do you want to move it? (-h <root hash>)")
        target = root_hash or present.root_hash
        if found and found["root_hash"] == target:
            return f"tag '{name}' already points to '{target}'"
        try:
            number, modified_s, size = _native.catalog_facts(str(repository.storage), target)
        except NotFound:
            message = f"catalog with hash '{target}' does not exist"
            raise NotFound(message, operation="edit tags", subject=target, exit_code=1) from None
        description = message or (found["description"] if found else "")
        tag: Tag = {
            "name": name,
            "root_hash": target,
            "size": size,
            "revision": number,
            "timestamp": modified_s,
            # A root hash lies on the branch that its other names are on.
            "branch": next((tag["branch"] for tag in present_tags if tag["root_hash"] == target), ""),
            "description": description,
        }
        _store(repository, remove=[name] if found else [], new=[tag])
        return f"moving tag '{name}' from '{found['root_hash']}' to '{target}'" if found else ""


def remove(repository: Repository, names: Sequence[str]) -> list[str]:
    """Removes tags; returns the lines to say."""
    if HEAD in names or UNDO in names:
        raise _refused("undo tags are handled internally and cannot be deleted")
    with _editing(repository):
        found = {tag["name"]: tag for tag in listed(repository)}
        for name in names:
            if name not in found:
                raise NotFound(f"tag '{name}' does not exist", operation="edit tags", subject=name, exit_code=1)
        _store(repository, remove=list(names), new=[])
        return [f"deleting '{name}' ({found[name]['root_hash']})" for name in names]


def _editing(repository: Repository) -> AbstractContextManager[ManifestFields]:
    return editing.exclusive(
        repository,
        in_transaction="Cannot change repository tags while in a transaction",
        publishing="Repository is currently publishing",
        checked_out="Cannot modify tags when checked out on another branch",
    )


def _store(repository: Repository, *, remove: list[str], new: list[Tag]) -> None:
    from nearfs import _native

    history = _native.edit_tags(
        str(repository.storage),
        history=repository.manifest().fields.history,
        fqrn=repository.fqrn,
        hash_algorithm=repository.hash_algorithm.value,
        remove=remove,
        add=new,
        head=None,
    )
    revision.resigned(repository, history=history)
    files.remove(revision.note_path(repository))
