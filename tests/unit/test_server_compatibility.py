"""The server's part of docs/compatibility.md says what is true: commands, their options, and parameters."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from nearfs.compat.server import commands, words

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs" / "compatibility.md").read_text("utf-8").partition("CernVM-FS 2.12 server\n")[2]
SOURCES = PROJECT / "python" / "nearfs"
STATES = {"yes", "differs", "later", "no"}
WORKING = {"yes", "differs"}

# The server parameters of CernVM-FS 2.12 (server.conf, server.local, replica.conf).
KNOWN = """
ASYNC_SCRATCH_CLEANUP AUFS_WARNING AUTO_GC AUTO_GC_LAPSE AUTO_GC_TIMESPAN AUTO_REPAIR_MOUNTPOINT AUTO_TAG
AUTO_TAG_TIMESPAN AUTOCATALOGS AUTOCATALOGS_MAX_WEIGHT AUTOCATALOGS_MIN_WEIGHT AVG_CHUNK_SIZE CATALOG_ALT_PATHS
CHECK_ALL_MIN_DAYS COMPRESSION_ALGORITHM CREATOR_VERSION DONT_CHECK_OVERLAYFS_VERSION ENABLE_MTIME_NS ENFORCE_LIMITS
EXTENDED_GC_STATS EXTERNAL_DATA FILE_MBYTE_LIMIT FORCE_REMOUNT_WARNING GARBAGE_COLLECTION GC_DELETION_LOG
GENERATE_LEGACY_BULK_CHUNKS GEO_ACCOUNT_ID GEO_AUTO_UPDATE GEO_DB_FILE GEO_LICENSE_KEY GID_MAP HASH_ALGORITHM
HTTP_RETRIES HTTP_TIMEOUT IGNORE_SPECIAL_FILES IGNORE_XDIR_HARDLINKS INCLUDE_XATTRS MAX_CHUNK_SIZE
MAX_PARALLEL_SNAPSHOTS MAXIMAL_CONCURRENT_WRITES MIN_CHUNK_SIZE NESTED_KCATALOG_LIMIT NUM_UPLOAD_TASKS NUM_WORKERS
PRINT_STATISTICS PUBLIC_KEY PUBLISH_VERSIONS_IN_META_FILE REPLICA_ACTIVE REPOSITORY_NAME REPOSITORY_TTL REPOSITORY_TYPE
ROOT_KCATALOG_LIMIT SERVER_PROXY SERVER_USE_CATALOG_CACHE SNAPSHOT_GROUP SPOOL_DIR STATISTICS_DB STATS_DB_DAYS_TO_KEEP
STRATUM0 STRATUM1 SYNCFS_LEVEL UID_MAP UNION_DIR UNION_FS_TYPE UPDATEGEO_DAY UPDATEGEO_HOUR UPDATEGEO_MAXDAYS
UPDATEGEO_MINDAYS UPLOAD_STATS_DB UPLOAD_STATS_PLOTS UPSTREAM_STORAGE USE_FILE_CHUNKING USER VIRTUAL_DIR VOMS_AUTHZ
"""


class Row(NamedTuple):
    """One row of the commands' table."""

    options: str
    state: str
    note: str


class ReadError(Exception):
    """Ends a command as soon as its options are known."""


def command_rows() -> dict[str, Row]:
    text = PAGE.partition("## Commands of `cvmfs_server`")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `([^`]+)` \| ?(?:`([^`]*)`)? ?\| (\w+) \| ?(.*?) ?\|$", text, re.MULTILINE)
    assert len({name for name, *_ in found}) == len(found)
    return {name: Row(*rest) for name, *rest in found}


def parameter_rows() -> dict[str, tuple[str, str]]:
    text = PAGE.partition("## Parameters of the server")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `CVMFS_([^`]+)` \| (\w+) \| ?(.*?) ?\|$", text, re.MULTILINE)
    assert len({name for name, *_ in found}) == len(found)
    return {name: (state, note) for name, state, note in found}


COMMANDS, PARAMETERS = command_rows(), parameter_rows()


def test_every_command_of_the_reference_has_a_row_and_the_state_of_the_code() -> None:
    names = commands.COMMANDS.keys() | commands.NOT_YET | commands.OTHER_NAMES.keys()
    assert names == COMMANDS.keys()
    assert {name for name, row in COMMANDS.items() if row.state not in WORKING} == set(commands.NOT_YET)


def test_every_row_has_a_state_and_a_reason() -> None:
    stated = [(row.state, row.note) for row in COMMANDS.values()] + list(PARAMETERS.values())
    assert {state for state, _ in stated} <= STATES
    assert [note for state, note in stated if state != "yes" and not note] == []


@pytest.mark.parametrize("name", sorted(commands.COMMANDS))
def test_a_command_reads_the_options_of_its_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def note(_self: words.Words, _command: str, _words: Sequence[str], short: str, long: Sequence[str] = ()) -> None:
        read.extend(f"-{letter}" for letter in short.replace(":", ""))
        read.extend(f"--{word.rstrip('=')}" for word in long)
        raise ReadError

    monkeypatch.setattr(words.Words, "__init__", note)
    with contextlib.suppress(ReadError):
        commands.COMMANDS[name].load()([])
    assert sorted(read) == sorted(COMMANDS[name].options.split())


def test_every_parameter_has_a_row() -> None:
    assert set(KNOWN.split()) == PARAMETERS.keys()


def test_what_works_is_read_by_the_code_and_nothing_else_is() -> None:
    places = [path for room in ("publish", "replica", "cli") for path in SOURCES.joinpath(room).rglob("*.py")]
    text = "".join(path.read_text("utf-8") for path in places)
    promised = {name for name, (state, _) in PARAMETERS.items() if state in WORKING}
    assert {name for name in promised if f"CVMFS_{name}" not in text} == set()
