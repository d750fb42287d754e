"""Changes every catalog of a repository: owners, hardlinks, hashes, counters (server.md 3.20).

Owns: questions and the words of the output. Does not own: what is changed (`publish.rewriting`).
Threading: a short-lived command, one thread.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.cli.asking import confirm
from nearfs.config import values
from nearfs.config.layers import Settings
from nearfs.errors import PermissionDenied
from nearfs.publish import acting, rewriting
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from nearfs.publish.rewriting import Ids, Rule

_WARNINGS: dict[Rule, str] = {
    "hardlinks": "This will break up all hardlink groups of the repository: every name becomes a file of its own.",
    "bulk-hashes": "This will remove the hashes of whole files where files are stored in chunks.",
    "statistics": "This will recompute the statistics counters of all catalogs.",
}


def chown(name: str, uid_file: str, gid_file: str) -> int:
    """Gives all entries new owners and groups by two map files."""
    return _rewrite(name, "owners", _ids("-u", uid_file), _ids("-g", gid_file))


def _ids(option: str, path: str) -> Ids:
    settings = Settings(fqrn="")
    settings.set(option, path, "the command line")
    found = values.read_id_map(settings, option)
    return ({}, None) if found is None else (found.exact, found.otherwise)


def rewrite(name: str, rule: Rule, *, force: bool) -> int:
    """Applies a rule to all catalogs, after a question."""
    repository = Repository.load(name)
    if os.geteuid() != 0:
        message = f"Only root can change all catalogs of {repository.fqrn}"
        raise PermissionDenied(message, operation="rewrite catalogs", subject=repository.fqrn, exit_code=1)
    rewriting.check_trunk(repository)
    if not force and not confirm(f"{_WARNINGS[rule]}\n\nAre you sure? (y/N): "):
        output.line("aborted.")
        return 1
    output.line("Opening repository transaction")
    return _rewrite(name, rule, None, None)


@acting.by_owner
def _rewrite(repository: Repository, rule: Rule, uid_map: Ids | None, gid_map: Ids | None) -> int:
    output.line("Starting catalog migration")
    committed = rewriting.rewrite(repository, rule, output.line, uid_map=uid_map, gid_map=gid_map)
    if committed is None:
        output.line("Catalog migration finished without any changes")
        return 0
    output.line(
        f"Published revision {committed['revision']} of {repository.fqrn}: {committed['entries_changed']} entries "
        f"changed in {committed['catalogs_new']} catalogs"
    )
    return 0
