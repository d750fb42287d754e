"""A stratum 1 of one test: a machine's worth of directories with replicas, driven by the real `cvmfs_server`.

Owns adding a replica, sources that change or lack something, and whether a replica is whole. Called from the test's own
thread; a source answers in threads of its own.
"""

import contextlib
import http.server
import random
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.format import check
from tests.support import processes, web
from tests.support.publishing import Publisher

OWN_FILES = {".cvmfs_last_snapshot", ".cvmfs_status.json", ".cvmfsreflog", ".cvmfs_master_replica"}


def add(
    prefix: Path, url: str, key: Path, fqrn: str, *options: str, alias: str = "", within: Sequence[str] = ()
) -> Publisher:
    """Makes an empty replica of `url`; what comes back runs commands of that machine, and knows its directories."""
    name = ["-n", alias] if alias else []
    machine = Publisher(prefix, alias or fqrn, within=within)
    machine.server("add-replica", "-p", "-o", "root", *name, *options, f"{url}/cvmfs/{fqrn}", key)
    return machine


def objects(storage: Path) -> dict[str, bytes]:
    """Returns the stored bytes of every object by its key."""
    found = (path for path in (storage / "data").glob("??/*") if path.parent.name != "txn")
    return {f"{path.parent.name}{path.name}": path.read_bytes() for path in found}


def named_files(storage: Path) -> dict[str, bytes]:
    """Returns the files beside the objects that a replica passes on as they are."""
    return {path.name: path.read_bytes() for path in storage.iterdir() if path.is_file() and path.name not in OWN_FILES}


def holes(storage: Path, scratch: Path) -> list[str]:
    """Returns what catalogs in a storage name and the storage has not: nothing, whatever happened to a snapshot."""
    present = {path.parent.name + path.name for path in (storage / "data").glob("??/*")}
    found = []
    for name in sorted(name for name in present if name.endswith("C")):
        file = scratch / "catalog"
        file.write_bytes(zlib.decompress((storage / "data" / name[:2] / name[2:]).read_bytes()))
        with sqlite3.connect(file) as database:
            wanted = [
                *((digest.hex(), "") for (digest,) in database.execute("SELECT hash FROM catalog WHERE length(hash)")),
                *((digest.hex(), "P") for (digest,) in database.execute("SELECT hash FROM chunks")),
                *((digest, "C") for (digest,) in database.execute("SELECT sha1 FROM nested_catalogs")),
            ]
        database.close()
        found += [f"{name} needs {digest}{suffix}" for digest, suffix in wanted if digest + suffix not in present]
    return found


def damage(path: Path, content: bytes, draw: random.Random) -> None:
    """Damages a stored object in one of the ways in which disks do."""
    match draw.randrange(4):
        case 0:
            path.unlink()
        case 1:
            path.write_bytes(content[: len(content) // 2])
        case 2:
            path.write_bytes(b"")
        case _:
            place = draw.randrange(len(content))
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


def clean(machine: Publisher) -> None:
    """Takes a machine's replica away, as an administrator would."""
    processes.run(
        ["rm", "-rf", machine.prefix / "srv", machine.prefix / "var", machine.prefix / "etc"], limit=60, cwd=Path("/")
    )


def fill(tree: Path, number: int, files: int = 20) -> None:
    """Changes some of a tree: nested catalogs, shared contents, a file in chunks, links."""
    draw = random.Random(number)
    for directory in (tree / "a", tree / "a" / "b", tree / f"c{number}"):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".cvmfscatalog").touch()
        for place in range(files):
            (directory / f"f{place}").write_bytes(draw.randbytes(200))
        (directory / "same").write_text("same")
    (tree / "big").write_bytes(draw.randbytes(9 << 20))
    (tree / "link").unlink(missing_ok=True)
    (tree / "link").symlink_to(f"c{number}")


def publish(publisher: Publisher, number: int, *options: str) -> None:
    """Publishes one more revision."""
    with publisher.transaction(*options) as tree:
        fill(tree, number)


def assert_sound(replica: Publisher, fqrn: str, key: Path) -> None:
    """Fails unless our check and the independent reader find the replica whole."""
    assert "no problems found" in replica.server("check", replica.fqrn).stdout
    assert check.check_repository(replica.storage, [key.read_bytes()], fqrn) == []


@contextlib.contextmanager
def source(publisher: Publisher, serves: Callable[[str], bool]) -> Iterator[str]:
    """Serves a publisher's storage; yields the URL. Before each answer `serves` hears the path, and may deny it."""

    class Source(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *words: Any) -> None:
            super().__init__(*words, directory=str(publisher.storage.parents[2]))

        def translate_path(self, path: str) -> str:
            return super().translate_path(f"/srv{path}")

        def do_GET(self) -> None:
            if serves(self.path):
                super().do_GET()
            else:
                self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
            pass

    with web.listening(Source) as url:
        yield url
