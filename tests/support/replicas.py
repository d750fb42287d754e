"""A stratum 1 of one test: a machine's worth of directories with replicas, driven by the real `cvmfs_server`.

Owns adding a replica, comparing it with its source, and looking for holes in it. Called from the test's own thread.
"""

import random
import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path

from tests.support import processes
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
