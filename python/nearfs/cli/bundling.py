"""Recording bundles on this machine, and publishing those that its repositories state.

Owns: which mount is recorded on, and what an administrator is told. Does not own: mounts and recorders (`client`),
specifications and revisions (`publish`).
Threading: a command's main thread; the engine works beside it while it publishes.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import mount_table
from nearfs.cli import output, summary, talk_cmd
from nearfs.client import private_mount, recording, workspace
from nearfs.config import layers, model
from nearfs.errors import InvalidInput, NearfsError
from nearfs.publish import acting, branches, bundles, collection, ownership
from nearfs.publish.places import Places
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


LIMIT_S = 300


@dataclass(frozen=True)
class Place:
    """A mount to record on: its control socket, and what comes before a command that is to use it."""

    socket: str
    private: private_mount.PrivateMount | None = None

    def run(self, command: Sequence[str], limit_s: float) -> recording.Recorded:
        """Runs a command as the caller, in the caller's directory."""
        words = self.private.words(os.getcwd()) if self.private else []
        return recording.record(self.socket, recording.Run(command, limit_s, words, is_alone=bool(words)))


@contextlib.contextmanager
def place(fqrn: str, *, is_private: bool) -> Iterator[Place]:
    """Yields where to record: the client's mount that is there, or one made for the purpose."""
    places = Places.here()
    if fqrn in Repository.master_names(places):
        # What is mounted here is the publisher's union, which other commands change.
        with published(Repository.load(fqrn, places)) as made:
            yield made
        return
    settings = layers.load(fqrn)
    point = Path(settings.get("CVMFS_MOUNT_DIR") or "/cvmfs") / fqrn
    if not is_private and _shows(point, fqrn):
        yield Place(talk_cmd.socket_path(fqrn))
        return
    model.client_config(settings)  # says what is missing better than a client that does not start
    with private_mount.mounted(fqrn, point, []) as private:
        yield Place(private.socket, private)


@contextlib.contextmanager
def published(repository: Repository) -> Iterator[Place]:
    """Mounts the newest revision of a repository of this machine, straight from its storage."""
    with tempfile.TemporaryDirectory(prefix="nearfs-bundle-source-") as source:
        options = bundles.mount_options(repository, Path(source))
        with private_mount.mounted(repository.fqrn, repository.union, options) as private:
            yield Place(private.socket, private)


def _shows(point: Path, fqrn: str) -> bool:
    """Tells whether a client shows the repository there; automount gets its chance."""
    with contextlib.suppress(OSError, TimeoutError):
        mount_table.within(lambda: os.stat(point))
    entry = mount_table.top_at(os.path.realpath(point))
    return entry is not None and entry.is_repository and workspace.shown_repository(str(point)) == fqrn


def recorded(repository: Repository, limit_s: float, say: Callable[[str], None]) -> tuple[list[bundles.Bundle], int]:
    """Runs the commands that a repository states; returns their bundles, and how many could not be recorded."""
    statement = bundles.statement(repository)
    commands = bundles.stated(statement)
    if not commands:
        message = f"{repository.fqrn} states no commands: write them to {statement}, one a line"
        raise InvalidInput(message, operation="record bundles", subject=repository.fqrn, exit_code=1)
    account = ownership.owner(repository) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    found, failed = [], 0
    with published(repository) as made:
        for one in commands:
            say(f"Recording: {one.command}")
            try:
                found.append(_recorded(made, one, limit_s, account))
            except NearfsError as error:
                failed += 1
                output.complain(f"Warning: no bundle of '{one.command}': {error}")
    return bundles.joined(found), failed


def _recorded(made: Place, one: bundles.Stated, limit_s: float, account: pwd.struct_passwd | None) -> bundles.Bundle:
    words = made.private.words("/", account) if made.private else []
    run = recording.Run(
        ["sh", "-c", one.command], limit_s, words, bundles.environment(account), is_alone=True, quiet=True
    )
    done = recording.record(made.socket, run)
    if done.complaint:
        raise InvalidInput(f"{done.complaint}\n(mend the command in {bundles.STATEMENT})", operation="record bundle")
    if done.is_cut:
        output.complain(f"Warning: '{one.command}' opens more files than a recording holds")
    return bundles.of_run(done.paths, os.fsencode(one.trigger))


@dataclass(frozen=True)
class Outcome:
    """What became of the bundles of a repository: `new` ones were published, or would be."""

    all: list[bundles.Bundle]
    new: list[bundles.Bundle]
    failed: int


def publish(repository: Repository, *, dry_run: bool, say: Callable[[str], None]) -> Outcome:
    """Records what a repository states and publishes the specifications that changed; nothing new, no revision."""
    found, failed = recorded(repository, repository.number("NEARFS_BUNDLES_LIMIT", LIMIT_S), say)
    new = bundles.new(repository, found)
    if new and not dry_run:

        def work() -> int:
            with summary.watching() as watched:
                committed = bundles.publish(repository, new, watched.progress, say)
            watched.end(repository.fqrn, committed, say)
            collection.after_publish(repository, say)
            return 0

        acting.as_owner(repository, work)
    return Outcome(found, new, failed)


def after_publish(repository: Repository) -> None:
    """Does after a publish what `NEARFS_BUNDLES` asks for; the publish is done, so whatever goes wrong is a warning."""
    if branches.current(repository) is not None:
        return  # the newest revision is not the one that was published
    way_out = f"the revision is published; try again with: nearfs bundle publish {repository.fqrn}"
    try:
        outcome = publish(repository, dry_run=False, say=output.line)
        if outcome.failed:
            output.complain(f"Warning: {outcome.failed} commands of {bundles.statement(repository)} gave no bundle")
        if not outcome.new:
            output.line(f"No bundle of {repository.fqrn} has changed")
    except (NearfsError, OSError) as error:
        output.complain(f"Warning: no bundles: {error}; {way_out}")
