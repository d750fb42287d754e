"""The end of every publish: from stored catalogs to the revision that readers see.

Owns: what each way to publish (a transaction, an archive, a directory, rewritten catalogs) has in common behind its
engine's part: tags, the virtual directory, and then the steps that nothing may interrupt.
Threading: called by one command at a time, under the repository's publishing lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.publish import branches, editing, healing, interrupts, revision, tags, template, virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nearfs.publish.repository import Repository
    from nearfs.publish.transaction import PublishOptions
    from nearfs.records import Committed
    from nearfs.signing import ManifestFields


def finish(
    repository: Repository,
    committed: Committed,
    committed_s: int,
    present: ManifestFields,
    options: PublishOptions,
    say: Callable[[str], None],
    *,
    mounts: bool = True,
    references: Sequence[tuple[str, str]] = (),
) -> Committed:
    """Names a stored revision and makes it the newest; returns it, or the one that follows it in the same publish.

    `present` is what the manifest said before; without `mounts` no mount is made. `references` (hash, suffix) are
    what else was stored on the way and is to be known to garbage collection.
    """
    checkout = branches.current(repository)
    if checkout is not None:
        _finish_on_branch(repository, committed, committed_s, present, options, checkout, say)
        return committed
    named = tags.after_publish(repository, committed, committed_s, present.history, options, say)
    committed, history, stored = virtual.update(repository, committed, named.history, committed_s)
    stored += [*named.references, *_copied(repository), *references]
    _say_signing(repository, say)
    with interrupts.held_off():  # from the first to the last step that readers or the next command see
        editing.show(repository, committed, history, present, say, stored, mounts=mounts)
    return committed


def _finish_on_branch(
    repository: Repository,
    committed: Committed,
    committed_s: int,
    present: ManifestFields,
    options: PublishOptions,
    checkout: branches.Checkout,
    say: Callable[[str], None],
) -> None:
    """Names a stored revision on its branch; the newest revision stays what it is, and the branch goes on from here."""
    say(f"Tagging {repository.fqrn}")
    history = tags.after_branch_publish(repository, committed, committed_s, present.history, options, checkout)
    references = [(committed["root_hash"], "C"), *_copied(repository)]
    _say_signing(repository, say)
    following = branches.Checkout(options.tag, committed["root_hash"], checkout.branch, checkout.branch)
    with interrupts.held_off():
        branches.record_next(repository, following)
        revision.resigned(repository, history=history, references=references)
        say("Remounting newly created repository revision")
        healing.heal(repository)


def _copied(repository: Repository) -> list[tuple[str, str]]:
    """Returns the reference of the revision below a template transaction."""
    copied = template.stored_root(repository) if repository.is_in_transaction else None
    return [(copied, "C")] if copied else []


def _say_signing(repository: Repository, say: Callable[[str], None]) -> None:
    if repository.text("CVMFS_SYNCFS_LEVEL", "default") != "none":
        say("Flushing file system buffers")
    say("Signing new manifest")
