"""Maintenance of a repository as administrators do it: rewriting catalogs, statistics, signatures, descriptions."""

import json
import os
import shutil
import sqlite3
import zlib
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.publishing import Publisher, command

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]


def test_catalogs_are_rewritten_as_revisions(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    publisher.configure(
        {"CVMFS_MIN_CHUNK_SIZE": "4096", "CVMFS_AVG_CHUNK_SIZE": "8192", "CVMFS_MAX_CHUNK_SIZE": "16384"}
    )
    with publisher.transaction() as tree:
        (tree / "a" / "b").mkdir(parents=True)
        (tree / "a" / ".cvmfscatalog").touch()
        (tree / "a" / "b" / ".cvmfscatalog").touch()
        (tree / "a" / "b" / "big").write_bytes(os.urandom(60_000))
        (tree / "a" / "f").write_text("f")
        os.chown(tree / "a" / "f", 501, 502)
    unchanged = "Catalog migration finished without any changes\n"
    for name in ("eliminate-hardlinks", "eliminate-bulk-hashes", "fix-stats"):
        asked = publisher.server(name, publisher.fqrn, check=False)
        assert (asked.returncode, asked.stdout.endswith("Are you sure? (y/N): aborted.\n")) == (1, True)
        said = publisher.server(name, "-f", publisher.fqrn).stdout
        assert said == f"Opening repository transaction\nStarting catalog migration\n{unchanged}"
    users, groups = tmp_path / "users", tmp_path / "groups"
    users.write_text("501 601 # moved\n")
    lack = publisher.server("catalog-chown", "-u", users, "-g", groups, publisher.fqrn, check=False)
    assert (lack.returncode, lack.stderr) == (1, "GID map file not found (-g)\n")
    groups.write_text("* 77\n")
    done = publisher.server("catalog-chown", "-u", users, "-g", groups, publisher.fqrn)
    assert "Starting catalog migration\n" in done.stdout
    found = {path: (publisher.union / path).stat() for path in ("a", "a/f", "a/b/big", "new_repository")}
    assert [found[path].st_uid for path in found] == [0, 601, 0, 0]
    assert {entry.st_gid for entry in found.values()} == {77}
    assert publisher.server("check", publisher.fqrn).stdout.endswith("no problems found\n")
    assert publisher.tags()["trunk"][2] == "3"
    again = publisher.server("catalog-chown", "-u", users, "-g", groups, publisher.fqrn)
    assert again.stdout.endswith(unchanged)
    publisher.server("transaction", publisher.fqrn)
    refused = publisher.server("fix-stats", "-f", publisher.fqrn, check=False)
    assert (refused.returncode, "is in a transaction" in refused.stderr) == (1, True)
    publisher.server("abort", "-f", publisher.fqrn)


def test_what_is_published_is_counted(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    with publisher.transaction() as tree:
        (tree / "d").mkdir()
        (tree / "d" / "f").write_text("four")
        (tree / "d" / "same").write_text("four")
        (tree / "d" / "l").symlink_to("f")
    with publisher.transaction() as tree:
        shutil.rmtree(tree / "d")
        greeting = (tree / "new_repository").stat().st_size
        (tree / "new_repository").write_text("other")
    shown = publisher.server("print-stats", "-s", ";", publisher.fqrn).stdout.splitlines()
    rows = [dict(zip(shown[0].split(";"), line.split(";"), strict=True)) for line in shown[1:]]
    assert [row["revision"] for row in rows] == ["1", "2", "3"]
    not_counted = {"publish_id", "start_time", "finish_time", "revision"}
    added, removed = (
        {name: int(count) for name, count in row.items() if name not in not_counted and count != "0"}
        for row in rows[1:]
    )
    catalog_bytes = [row.pop("sz_catalog_bytes_uploaded") for row in (added, removed)]
    assert all(100 < size < 10_000 for size in catalog_bytes)
    stored = len(zlib.compress(b"four"))
    one_object = {"chunks_added": 1, "catalogs_added": 1, "success": 1}
    assert added == one_object | {
        "files_added": 2,
        "symlinks_added": 1,
        "directories_added": 1,
        "chunks_duplicated": 1,
        "sz_bytes_added": 8,
        "sz_bytes_uploaded": stored,
    }
    assert removed == one_object | {
        "files_changed": 1,
        "files_removed": 2,
        "symlinks_removed": 1,
        "directories_removed": 1,
        "sz_bytes_added": 5,
        "sz_bytes_removed": 8 + greeting,
        "sz_bytes_uploaded": len(zlib.compress(b"other")),
    }
    properties = publisher.server("print-stats", "-t", "properties", publisher.fqrn).stdout
    assert publisher.fqrn in properties
    # A row of another day, and its pruning; a copy that the web server serves.
    with sqlite3.connect(publisher.spool / "stats.db") as database:
        database.execute(
            "INSERT INTO publish_statistics (start_time, finish_time, revision) VALUES ('2001-01-01', '', 9)"
        )
    copy = tmp_path / "copy.db"
    copy.write_bytes((publisher.spool / "stats.db").read_bytes())
    publisher.configure({"CVMFS_UPLOAD_STATS_DB": "true"})
    with publisher.transaction() as tree:
        (tree / "new_repository").unlink()
    merged = tmp_path / "merged.db"
    publisher.server("merge-stats", "-o", merged, copy, publisher.storage / "stats" / "stats.db")
    with sqlite3.connect(merged) as database:
        revisions = database.execute("SELECT revision FROM publish_statistics ORDER BY publish_id").fetchall()
    assert revisions == [(9,), (1,), (2,), (3,), (4,)]
    with sqlite3.connect(copy) as database:
        database.execute("UPDATE properties SET value = 'other.example.org' WHERE key = 'repo_name'")
    refused = publisher.server("merge-stats", "-o", tmp_path / "no.db", copy, merged, check=False)
    assert (refused.returncode, "cannot be merged" in refused.stderr) == (1, True)
    # A database that fails is said, and fails no publish.
    (publisher.spool / "stats.db").write_bytes(b"no database" * 100)
    publisher.server("transaction", publisher.fqrn)
    said = publisher.server("publish", publisher.fqrn)
    assert "were not stored in" in said.stdout
    assert publisher.server("print-stats", publisher.fqrn, check=False).returncode == 1
    (publisher.spool / "stats.db").unlink()
    none = publisher.server("print-stats", publisher.fqrn, check=False)
    assert (none.returncode, none.stderr) == (1, f"No statistics database file for {publisher.fqrn} repository.\n")


def test_signatures_and_descriptions_are_renewed(publisher: Publisher, tmp_path: Path) -> None:
    publisher.create()
    signed = (publisher.storage / ".cvmfswhitelist").read_bytes()
    assert publisher.server("resign", "-d", "7").stdout == "Signing 7 day whitelist with master key... done\n"
    renewed = (publisher.storage / ".cvmfswhitelist").read_bytes()
    assert renewed.splitlines()[1] < signed.splitlines()[1]
    asked = publisher.server("resign", "-d", "31", publisher.fqrn, check=False)
    assert (asked.returncode, "Warning: whitelist expiration is more than 30 days.\n" in asked.stdout) == (1, True)
    copy = tmp_path / "whitelist"
    copy.write_bytes(renewed)
    publisher.server("resign", "-w", copy, publisher.fqrn)
    assert copy.read_bytes().splitlines()[3] == renewed.splitlines()[3]
    for words, said in ((("-d", "3"), "Cannot use -d with -p"), (("-w", "x"), "Cannot use both -w and -p")):
        refused = publisher.server("resign", "-p", *words, publisher.fqrn, check=False)
        assert (refused.returncode, refused.stderr) == (1, f"{said}\n")
    assert publisher.server("resign", "-p").stdout == "Signing .cvmfspublished... done\n"
    master = publisher.prefix / "etc" / "cvmfs" / "keys" / f"{publisher.fqrn}.masterkey"
    master.rename(tmp_path / "card")
    lack = publisher.server("resign", check=False)
    assert (lack.returncode, "copy the master key back" in lack.stderr) == (1, True)
    document = tmp_path / "new.json"
    document.write_text('{"administrator": "A"}')
    publisher.server("update-repoinfo", "-f", document, publisher.fqrn)
    read = [*command("x")[:2], "nearfs.compat.cvmfs_swissknife", "info", "-r", publisher.storage, "-M"]
    assert json.loads(processes.run(read).stdout) == {"administrator": "A"}
    document.write_text("{")
    for path, said in ((document, "The provided JSON file is invalid. See below:"), (tmp_path / "no", "doesn't exist")):
        refused = publisher.server("update-repoinfo", "-f", path, publisher.fqrn, check=False)
        assert (refused.returncode, said in refused.stderr) == (1, True)
    publisher.server("update-info", "-e")
    meta = json.loads((publisher.prefix / "srv/cvmfs/info/v1/meta.json").read_text())
    assert meta.keys() == {"administrator", "email", "organisation", "custom"}
    publisher.server("skeleton", tmp_path / "storage")
    assert len([entry for entry in (tmp_path / "storage" / "data").iterdir() if len(entry.name) == 2]) == 256
    publisher.server("fix-permissions")
    for name in ("enter", "masterkeycard", "update-geodb"):
        later = publisher.server(name, check=False)
        assert (later.returncode, "not available in this version of nearfs; " in later.stderr) == (1, True)
    listed = json.loads((publisher.prefix / "srv/cvmfs/info/v1/repositories.json").read_text())
    assert listed["cvmfs_version"] == "2.12.0"
    with publisher.transaction() as tree:
        (tree / "f").touch()
    assert publisher.server("check", publisher.fqrn).stdout.endswith("no problems found\n")
