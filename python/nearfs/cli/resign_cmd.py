"""Renews signatures: whitelists for some days, or the manifest (server.md 3.17).

Owns: questions and the words of the output. Does not own: what is signed (`publish.resigning`).
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfs import whitelist
from nearfs.cli import output
from nearfs.cli.asking import confirm
from nearfs.errors import NearfsError
from nearfs.publish import acting, resigning
from nearfs.publish.places import Places
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def whitelists(names: Sequence[str], *, days: int, path: Path | None, force: bool) -> int:
    """Renews the whitelists of repositories, or the one in the file `path`."""
    resigning.check_days(days)
    if days > whitelist.DEFAULT_DAYS and not force:
        output.line(f"Warning: whitelist expiration is more than {whitelist.DEFAULT_DAYS} days.")
        if not confirm("Are you sure (y/N)? "):
            return 1
    return _each(names, lambda name: _whitelist(name, days, path))


def _whitelist(name: str, days: int, path: Path | None) -> None:
    repository = Repository.load(name) if path is None else None
    fqrn = repository.fqrn if repository else name
    resigning.check_caller(fqrn)
    resigning.master_key_file(fqrn, Places.here())
    if repository:
        for fingerprint in resigning.forgotten(repository):
            output.complain(f"Note: the whitelist of {fqrn} no longer lists {fingerprint}; -w keeps what a file lists")
    with output.step(f"Signing {days} day whitelist with master key"):
        if repository:
            resigning.renew(repository, days)
        elif path:
            resigning.renew_file(fqrn, path, Places.here(), days)


def manifests(names: Sequence[str]) -> int:
    """Signs the manifests of repositories again."""

    @acting.by_owner
    def sign(repository: Repository) -> int:
        with output.step("Signing .cvmfspublished"):
            resigning.sign_manifest(repository)
        return 0

    return _each(names, sign)


def _each(names: Sequence[str], work: Callable[[str], object]) -> int:
    """Works on one repository after the other; one that fails does not keep the others from it."""
    failed = 0
    for name in names:
        try:
            work(name)
        except NearfsError as error:
            if len(names) == 1:
                raise
            output.complain(f"{name}: {error}")
            failed = 1
    return failed
