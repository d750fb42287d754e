"""Verifies a repository's storage (server.md 3.13).

Owns: which checks make up `cvmfs_server check` and how findings are printed. Does not own: the checks (the engine).
Threading: a short-lived command, one thread; the engine uses all cores for contents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfs.cli import output
from nearfs.errors import NotFound
from nearfs.publish import revision, tags
from nearfs.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfs.records import Finding
    from nearfs.signing import ManifestFields


@dataclass(frozen=True)
class CheckOptions:
    """What to verify: presence of objects, their content, which revision, which part of it."""

    check_chunks: bool = True
    verify_content: bool = False
    tag: str = ""
    subtree: str = ""


def check(names: Sequence[str], options: CheckOptions) -> int:
    """Checks repositories one after the other; returns 1 if any has a problem."""
    return max((_check_one(Repository.load(name), options) for name in names), default=0)


def _check_one(repository: Repository, options: CheckOptions) -> int:
    from nearfs import _native

    output.line(f"Verifying integrity of {repository.fqrn}...")
    fields = repository.manifest().fields
    storage = str(repository.storage)
    findings = _reference_findings(repository, fields)
    if fields.history:
        output.line("Inspecting tag database")
        findings += _native.check_history(storage, history=fields.history, fqrn=repository.fqrn)
    root_hash, size = fields.root_hash, fields.root_size
    if options.tag:
        root_hash, size = _tagged(repository, options.tag)
    catalogs, problems = _native.check(
        storage,
        fqrn=repository.fqrn,
        root_hash=root_hash,
        expected_size=size,
        check_chunks=options.check_chunks,
        verify_content=options.verify_content,
        subtree=options.subtree,
    )
    for catalog, path in catalogs:
        output.line(f"[inspecting catalog] {catalog} at {path or '/'}")
    findings += problems
    for finding in findings:
        output.complain(f"{finding['subject']}: {finding['problem']}")
    if findings:
        output.complain("CATALOG PROBLEMS OR OTHER ERRORS FOUND")
        return 1
    output.line("no problems found")
    return 0


def _reference_findings(repository: Repository, fields: ManifestFields) -> list[Finding]:
    from nearfs import _native

    checksum = revision.reflog_checksum(repository)
    if checksum is None:
        return []
    output.line("Inspecting log of references")
    named = [(fields.root_hash, "C"), (fields.certificate, "X"), (fields.history, "H"), (fields.meta_info, "M")]
    references = [(hash_text, suffix) for hash_text, suffix in named if hash_text]
    return _native.check_references(str(repository.storage), checksum=checksum, references=references)


def _tagged(repository: Repository, name: str) -> tuple[str, int]:
    for tag in tags.listed(repository):
        if tag["name"] == name:
            return tag["root_hash"], tag["size"]
    raise NotFound(f"tag '{name}' does not exist", operation="check", subject=name, exit_code=1)
