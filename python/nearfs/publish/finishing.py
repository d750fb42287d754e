"""The end of every publish: from stored catalogs to the revision that readers see.

Owns: what each way to publish (a transaction, an archive, a directory, rewritten catalogs) has in common behind its
engine's part: tags, the virtual directory, and then the steps that nothing may interrupt.
Threading: called by one command at a time, under the repository's publishing lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs.publish import editing, interrupts, tags, template, virtual

if TYPE_CHECKING:
    from collections.abc import Callable

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
) -> Committed:
    """Names a stored revision and makes it the newest; returns it, or the one that follows it in the same publish.

    `present` is what the manifest said before; without `mounts` no mount is made.
    """
    named = tags.after_publish(repository, committed, committed_s, present.history, options, say)
    committed, history, references = virtual.update(repository, committed, named.history, committed_s)
    references += named.references
    if repository.is_in_transaction and (copied := template.stored_root(repository)):
        references.append((copied, "C"))
    if repository.text("CVMFS_SYNCFS_LEVEL", "default") != "none":
        say("Flushing file system buffers")
    say("Signing new manifest")
    with interrupts.held_off():  # from the first to the last step that readers or the next command see
        editing.show(repository, committed, history, present, say, references, mounts=mounts)
    return committed
