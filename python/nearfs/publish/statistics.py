"""The spool's database of what was published and collected (server.md 3.20).

Owns: the tables, their rows and their pruning. A database that fails never fails what it counts: that is said, and the
command goes on. Does not own: the counters (the engine) and what is printed.
Threading: written by one command at a time, under the repository's publishing lock; SQLite guards against others.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearfs import files
from nearfs.errors import Corrupt, InvalidInput, NearfsError, NotFound
from nearfs.publish import ownership

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nearfs.publish.repository import Repository
    from nearfs.records import Committed

TABLES: Mapping[str, str] = {
    "publish_statistics": (
        "publish_id INTEGER PRIMARY KEY, start_time TEXT, finish_time TEXT, revision INTEGER, files_added INTEGER, "
        "files_removed INTEGER, files_changed INTEGER, chunks_added INTEGER, chunks_duplicated INTEGER, "
        "catalogs_added INTEGER, directories_added INTEGER, directories_removed INTEGER, directories_changed INTEGER, "
        "symlinks_added INTEGER, symlinks_removed INTEGER, symlinks_changed INTEGER, sz_bytes_added INTEGER, "
        "sz_bytes_removed INTEGER, sz_bytes_uploaded INTEGER, sz_catalog_bytes_uploaded INTEGER, success INTEGER"
    ),
    "gc_statistics": (
        "gc_id INTEGER PRIMARY KEY, start_time TEXT, finish_time TEXT, n_preserved_catalogs INTEGER, "
        "n_condemned_catalogs INTEGER, n_condemned_objects INTEGER, sz_condemned_bytes INTEGER, "
        "n_duplicate_delete_requests INTEGER, success INTEGER"
    ),
    "properties": "key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key)",
}
SCHEMA = "1.0"
_STAMP = "%Y-%m-%d %H:%M:%S"
_DEFAULT_DAYS = 365
_BUSY_S = 10.0
# Behind the number of the row and the two times.
_FIRST_COUNTER = 3


def database_path(repository: Repository) -> Path:
    """Returns where the statistics lie: `stats.db` in the spool area, unless the configuration says otherwise."""
    return Path(repository.text("CVMFS_STATISTICS_DB", str(repository.spool / "stats.db")))


def stored(repository: Repository) -> Path:
    """Returns the database; raises `NotFound` where nothing was counted yet."""
    path = database_path(repository)
    if not path.is_file():
        message = f"No statistics database file for {repository.fqrn} repository."
        raise NotFound(message, operation="read statistics", subject=repository.fqrn, exit_code=1)
    return path


@dataclass
class Counted:
    """What one publish did, while it runs; `row` is what is written, None where nothing is to be."""

    row: dict[str, int] | None

    def committed(self, committed: Committed) -> None:
        """Takes over the counters of a revision that is in place."""
        self.row = publish_row(committed)

    def forget(self) -> None:
        """Says that there was nothing to do."""
        self.row = None


def publish_row(committed: Committed | None) -> dict[str, int]:
    """Returns the counters of a revision as columns; 0 for what was not published."""
    columns = [column.split(" ", 1)[0] for column in TABLES["publish_statistics"].split(", ")]
    row = dict.fromkeys(columns[_FIRST_COUNTER:-1], 0)
    if committed is not None:
        row |= {name: count for name, count in committed["counts"].items() if name in row}
        row["revision"] = committed["revision"]
    return row


@contextlib.contextmanager
def publishing(repository: Repository, say: Callable[[str], None]) -> Iterator[Counted]:
    """Counts one publish: yields what is to be told of it, and writes a row however it ends."""
    counted, start_s, success = Counted(publish_row(None)), time.time(), False
    try:
        yield counted
        success = True
    finally:
        if counted.row is not None:
            _record(repository, "publish_statistics", counted.row, start_s, say, success=success)


def record_publish(
    repository: Repository,
    committed: Committed | None,
    start_s: float,
    say: Callable[[str], None],
    *,
    success: bool = True,
) -> None:
    """Writes the row of one publish or ingest; never raises for a database that fails."""
    _record(repository, "publish_statistics", publish_row(committed), start_s, say, success=success)


def record_gc(
    repository: Repository,
    counts: Mapping[str, int],
    start_s: float,
    say: Callable[[str], None],
    *,
    success: bool = True,
) -> None:
    """Writes the row of one garbage collection; `counts` has the columns of `gc_statistics` that are known."""
    _record(repository, "gc_statistics", dict(counts), start_s, say, success=success)


def _record(
    repository: Repository,
    table: str,
    row: Mapping[str, int],
    start_s: float,
    say: Callable[[str], None],
    *,
    success: bool,
) -> None:
    import sqlite3  # takes as long as all the rest of a command that opens a transaction

    path = database_path(repository)
    try:
        with contextlib.closing(_opened(path, repository.fqrn)) as database, database:
            _prune(database, repository.number("CVMFS_STATS_DB_DAYS_TO_KEEP", _DEFAULT_DAYS))
            written: dict[str, int | str] = {
                "start_time": _stamp(start_s),
                "finish_time": _stamp(time.time()),
                **row,
                "success": int(success),
            }
            names, marks = ", ".join(written), ", ".join("?" * len(written))
            database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(written.values()))  # noqa: S608 - names of ours
        ownership.give_path(repository, path)
        say(f"Statistics stored at: {path}")
        if repository.is_on("CVMFS_UPLOAD_STATS_DB"):
            _serve(repository, path)
    except (sqlite3.Error, OSError, NearfsError) as error:
        say(f"Warning: the statistics of {repository.fqrn} were not stored in {path}: {error}")


def _opened(path: Path, fqrn: str) -> sqlite3.Connection:
    import sqlite3

    database = sqlite3.connect(path, timeout=_BUSY_S)
    try:
        with database:
            for name, columns in TABLES.items():
                database.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
            given = [("schema", SCHEMA), ("schema_revision", "0"), ("repo_name", fqrn)]
            database.executemany("INSERT OR IGNORE INTO properties (key, value) VALUES (?, ?)", given)
    except BaseException:
        database.close()
        raise
    return database


def _prune(database: sqlite3.Connection, days: int) -> None:
    oldest = _stamp(max(0.0, time.time() - days * 86400))
    for table in ("publish_statistics", "gc_statistics"):
        database.execute(f"DELETE FROM {table} WHERE start_time < ?", (oldest,))  # noqa: S608 - a name of ours


def _serve(repository: Repository, path: Path) -> None:
    """Puts a copy beside the repository, where the web server finds it."""
    directory = repository.storage / "stats"
    directory.mkdir(exist_ok=True)
    files.replace(directory / "stats.db", path.read_bytes())


def _stamp(moment_s: float) -> str:
    return time.strftime(_STAMP, time.gmtime(moment_s))


def rows(path: Path, table: str) -> tuple[list[str], list[Sequence[object]]]:
    """Returns the column names and the rows of a table, in the order of writing."""
    database = _read_only(path)
    with contextlib.closing(database), _readable(path):
        found = database.execute(f"SELECT * FROM {table} ORDER BY rowid")  # noqa: S608 - one of `TABLES`
        return [column[0] for column in found.description], found.fetchall()


def _read_only(path: Path) -> sqlite3.Connection:
    import sqlite3

    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        message = f"{path} is no statistics database: {error}"
        raise Corrupt(message, operation="read statistics", subject=str(path), exit_code=1) from error


def merge(sources: Sequence[Path], output: Path) -> int:
    """Writes the rows of databases of one repository and one schema into a new database, oldest first; returns how
    many there are.
    """
    identities = {path: _identity(path) for path in sources}
    if len(set(identities.values())) != 1:
        told = "; ".join(f"{path}: schema {schema} of {fqrn}" for path, (schema, fqrn) in identities.items())
        message = f"statistics of different repositories or schemas cannot be merged ({told})"
        raise InvalidInput(message, operation="merge statistics", exit_code=1)
    if output.exists():
        message = f"{output} exists already; remove it, or name another file with -o"
        raise InvalidInput(message, operation="merge statistics", exit_code=1)
    beside = output.with_name(f".{output.name}.new")
    beside.unlink(missing_ok=True)
    try:
        count = _merge_into(beside, sources, next(iter(identities.values()))[1])
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)
    return count


def _merge_into(path: Path, sources: Sequence[Path], fqrn: str) -> int:
    count = 0
    with contextlib.closing(_opened(path, fqrn)) as database, database:
        for table in ("publish_statistics", "gc_statistics"):
            merged: set[tuple[object, ...]] = set()
            for source in sources:
                names, found = rows(source, table)
                if names != [column.split(" ", 1)[0] for column in TABLES[table].split(", ")]:
                    raise _other_columns(source, table)
                merged |= {tuple(row[1:]) for row in found}  # the number of a row is its place in one database
            names_text, marks = ", ".join(names[1:]), ", ".join("?" * (len(names) - 1))
            # Within a second the revision tells which came first.
            ordered = sorted(merged, key=lambda row: (str(row[0]), str(row[1]), str(row[2]).zfill(20)))
            database.executemany(f"INSERT INTO {table} ({names_text}) VALUES ({marks})", ordered)  # noqa: S608 - checked above
            count += len(ordered)
    return count


def _other_columns(path: Path, table: str) -> NearfsError:
    message = f"{path}: table {table} has other columns than this version's"
    return Corrupt(message, operation="merge statistics", subject=str(path), exit_code=1)


def _identity(path: Path) -> tuple[str, str]:
    if not path.is_file():
        raise NotFound(f"{path}: there is no such file", operation="merge statistics", subject=str(path), exit_code=1)
    found = {str(row[0]): str(row[1]) for row in rows(path, "properties")[1]}
    return found.get("schema", "none"), found.get("repo_name", "")
