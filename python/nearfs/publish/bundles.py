"""Bundles of a repository: which commands its publisher states, and specifications that go beside their triggers.

Owns: `bundles.conf`, the comparison with what is published, and the revision with what is new. Does not own: running
commands (callers record), the form of a specification (the engine).
Threading: as `into`: one command at a time, under the repository's publishing lock.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs.errors import InvalidInput, NearfsError
from nearfs.publish import into, looking, ownership
from nearfs.publish.transaction import PublishOptions

if TYPE_CHECKING:
    import pwd
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from nearfs._native import Progress
    from nearfs.publish.repository import Repository
    from nearfs.records import Committed

STATEMENT = "bundles.conf"
PREFIX = ".cvmfsbundle-"
_TRIGGER = "trigger:"
_STATEMENT_LIMIT_BYTES = 1 << 20
_SPECIFICATION_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Stated:
    """A command that a repository states: what it reads is a bundle, which begins with `trigger`, or its first file."""

    command: str
    trigger: str = ""


@dataclass(frozen=True)
class Bundle:
    """The files that are read once a trigger was opened, in order; paths from the root of the repository on."""

    trigger: bytes
    dependencies: Sequence[bytes]

    @property
    def specification(self) -> bytes:
        """Returns the path of its specification."""
        directory, name = os.path.split(self.trigger)
        return os.path.join(directory, os.fsencode(PREFIX) + name)


def statement(repository: Repository) -> Path:
    """Returns the file in which a repository states commands."""
    return repository.configuration / STATEMENT


def stated(path: Path) -> list[Stated]:
    """Returns the commands of a statement, none where there is no file; raises `InvalidInput` naming the line."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as source:
            text = source.read(_STATEMENT_LIMIT_BYTES)
    except FileNotFoundError:
        return []
    found: list[Stated] = []
    trigger = ""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        if not words.startswith(_TRIGGER):
            found.append(Stated(words, trigger))
            trigger = ""
            continue
        if trigger:
            raise _invalid(path, number, "a second trigger: without a command in between")
        trigger = words.removeprefix(_TRIGGER).strip()
        if not trigger.startswith("/"):
            raise _invalid(path, number, "the path of a trigger begins with /, the root of the repository")
    if trigger:
        raise _invalid(path, len(text.splitlines()), "no command behind the last trigger:")
    return found


def _invalid(path: Path, number: int, reason: str) -> InvalidInput:
    return InvalidInput(f"{path}, line {number}: {reason}", operation="read bundles", subject=str(path), exit_code=1)


def of_run(paths: Sequence[bytes], trigger: bytes = b"") -> Bundle:
    """Returns the bundle of a run: what it opened behind its trigger, which is the first file unless one is given.

    Raises `InvalidInput` if it opened nothing, or not the trigger.
    """
    files = [path for path in paths if not os.path.basename(path).startswith(os.fsencode(PREFIX))]
    if not files:
        message = "the command opened no file of the repository"
        raise InvalidInput(message, operation="record bundle", exit_code=1)
    if trigger and trigger not in files:
        shown = os.fsdecode(trigger)
        message = f"the command did not open {shown}; a trigger is a file that it opens, by its own path (no link)"
        raise InvalidInput(message, operation="record bundle", subject=shown, exit_code=1)
    at = files.index(trigger) if trigger else 0
    return Bundle(files[at], [path for path in files[at + 1 :] if path != files[at]])


def joined(bundles: Sequence[Bundle]) -> list[Bundle]:
    """Returns one bundle for each trigger: files of several come one behind the other, each once."""
    together: dict[bytes, dict[bytes, None]] = {}
    for bundle in bundles:
        together.setdefault(bundle.trigger, {}).update(dict.fromkeys(bundle.dependencies))
    return [Bundle(trigger, list(files)) for trigger, files in together.items()]


def new(repository: Repository, bundles: Sequence[Bundle]) -> list[Bundle]:
    """Returns the bundles whose files are not those of the specification that the newest revision has.

    Their order does not count: programs with threads open files in another order each time.
    """
    with looking.Looking(repository.storage, repository.manifest().fields.root_hash) as revision:
        return [bundle for bundle in bundles if _published(revision, bundle) != set(bundle.dependencies)]


def _published(revision: looking.Looking, bundle: Bundle) -> set[bytes] | None:
    from nearfs import _native

    try:
        content = revision.document(os.fsdecode(bundle.specification), _SPECIFICATION_LIMIT_BYTES)
        paths, _ = _native.parse_bundle(content, os.path.dirname(bundle.trigger).rstrip(b"/"))
    except NearfsError:  # there is none, or none that we would have written
        return None
    return set(paths)


def publish(
    repository: Repository, bundles: Sequence[Bundle], progress: Progress, say: Callable[[str], None]
) -> Committed:
    """Publishes specifications beside their triggers, as one revision."""
    with tempfile.NamedTemporaryFile(prefix="nearfs-bundles-", suffix=".tar") as archive:
        with tarfile.open(fileobj=archive, mode="w") as out:
            for bundle in sorted(bundles, key=lambda bundle: bundle.specification):
                _add(out, bundle, ownership.owner(repository))
        archive.flush()
        wanted = into.Wanted(archive.name, "/", PublishOptions())
        return into.publish(repository, wanted, mounts=False, progress=progress, say=say)


def _add(out: tarfile.TarFile, bundle: Bundle, account: pwd.struct_passwd | None) -> None:
    from nearfs import _native

    text, _ = _native.encode_bundle(list(bundle.dependencies))
    content = text.encode()
    member = tarfile.TarInfo(os.fsdecode(bundle.specification).lstrip("/"))
    member.size, member.mode, member.mtime = len(content), 0o644, int(time.time())
    member.uid, member.gid = (account.pw_uid, account.pw_gid) if account else (os.geteuid(), os.getegid())
    out.addfile(member, io.BytesIO(content))


def mount_options(repository: Repository, place: Path) -> list[str]:
    """Returns what `cvmfs2 -o` is told to mount the newest revision from the storage; `place` gets a file of it.

    Never with set-uid bits: root mounts, and commands run as an owner who may have published such a file.
    """
    source = place / "source"
    source.write_text(f"CVMFS_SERVER_URL=file://{repository.storage}\n", encoding="utf-8")
    return [f"config={repository.configuration / 'client.conf'}:{source}"]


def environment(account: pwd.struct_passwd | None) -> Mapping[str, str]:
    """Returns what a stated command finds in its environment: that of a fresh login, whoever publishes."""
    home = account.pw_dir if account and os.path.isdir(account.pw_dir) else "/"
    name = account.pw_name if account else str(os.geteuid())
    kept = {key: os.environ[key] for key in ("TMPDIR", "TZ") if key in os.environ}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**kept, "PATH": path, "HOME": home, "USER": name, "LOGNAME": name, "SHELL": "/bin/sh", "LANG": "C.UTF-8"}
