"""The whole chain: stratum 0, two replicas, a Squid before each pair of clients; mirrors die, lag, and rot.

Whatever happens, no client reads a wrong byte or goes back to an older revision, and each settles on a mirror that is
good again.
"""

import contextlib
import hashlib
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.support import processes, replicas, squid
from tests.support.misbehaving import Box, box
from tests.support.publishing import Publisher
from tests.support.serving import Server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(400)]
FILES = 12


def fill(tree: Path, revision: int) -> None:
    """Writes a tree of which every file says its revision, and one that is cut into chunks."""
    draw = random.Random(revision)
    for directory in (tree / "plain", tree / "nested"):
        directory.mkdir(exist_ok=True)
        for number in range(FILES):
            (directory / f"f{number}").write_bytes(f"revision {revision}\n".encode() + draw.randbytes(500))
    (tree / "nested" / ".cvmfscatalog").touch()
    (tree / "chunks").write_bytes(draw.randbytes(300_000))
    (tree / "revision").write_text(str(revision))


def contents(tree: Path) -> dict[str, str]:
    """Returns the hash of every file."""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    return {str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass(frozen=True)
class Client:
    """A mount with a cache of its own."""

    point: Path
    cache: Path
    fqrn: str

    def follow(self) -> str:
        """Looks for a new revision at once; returns what the client says."""
        return self._talk("remount", "sync")

    def drop(self) -> None:
        """Empties the cache: what is read next comes over the wires."""
        self._talk("cleanup", "0")

    def shows(self, revision: str) -> bool:
        """Tells whether a new revision, if there is one, is this one."""
        self.follow()
        return (self.point / "revision").read_text() == revision

    def _talk(self, *words: str) -> str:
        socket = self.cache / self.fqrn / f"cvmfs_io.{self.fqrn}"
        command: list[str | Path] = [sys.executable, "-m", "nearfs.compat.cvmfs_talk", "-p", socket, *words]
        return processes.run(command, check=False, limit=60, cwd=Path("/")).stdout.strip()


@pytest.fixture
def proxies() -> Iterator[list[squid.Squid]]:
    """Two Squids."""
    assert squid.missing() is None, squid.missing()
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(squid.running()) for _ in range(2)]


def rot(storage: Path) -> int:
    """Damages every file object of a storage, as a dying disk does; returns how many."""
    victims = [path for path in (storage / "data").glob("??/*") if not path.name.endswith(("C", "X", "H", "M"))]
    for path in victims:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    return len(victims)


def test_clients_go_on_whatever_happens_to_mirrors(
    publisher: Publisher,
    server: Callable[[Path], Server],
    mount: Callable[..., Path],
    proxies: list[squid.Squid],
    tmp_path: Path,
) -> None:
    publisher.create()
    publisher.configure(
        {f"CVMFS_{size}_CHUNK_SIZE": str(24_576 << at) for at, size in enumerate(("MIN", "AVG", "MAX"))}
    )
    with publisher.transaction() as union:
        fill(union, 1)
    fqrn, source = publisher.fqrn, server(publisher.storage.parent)
    near, far = (
        replicas.add(tmp_path / name, source.url, publisher.public_key, fqrn) for name in ("mirror1", "mirror2")
    )
    for mirror in (near, far):
        mirror.server("snapshot", fqrn)
    with contextlib.ExitStack() as stack:
        boxes: list[Box] = [stack.enter_context(box(server(mirror.storage.parent).url)) for mirror in (near, far)]
        clients = []
        for number in range(4):
            # Half of the clients are nearer to the other mirror.
            hosts = [one.url for one in (boxes if number % 2 == 0 else boxes[::-1])]
            cache = tmp_path / f"cache{number}"
            settings = publisher.client_settings(
                ";".join(hosts),
                cache,
                CVMFS_HTTP_PROXY=proxies[number // 2].url,
                CVMFS_TIMEOUT="2",
                CVMFS_TIMEOUT_DIRECT="2",
                CVMFS_MAX_RETRIES="1",
                CVMFS_HOST_RESET_AFTER="1",
                CVMFS_KCACHE_TIMEOUT="1",
            )
            clients.append(Client(mount(fqrn, settings), cache, fqrn))

        def all_show(revision: int) -> None:
            expected = contents(publisher.union)
            for client in clients:
                assert (client.point / "revision").read_text() == str(revision)
                assert contents(client.point) == expected

        all_show(1)

        # One mirror dies while the other gets a new revision: everybody sees it, nobody a wrong byte.
        with boxes[0].being("refuse"):
            with publisher.transaction() as union:
                fill(union, 2)
            far.server("snapshot", fqrn)
            for client in clients:
                client.drop()
                wait_until(partial(client.shows, "2"), 30, "the client sees the new revision")
            all_show(2)

        # It comes back, a revision behind: nobody goes back.
        for client in clients:
            assert client.follow() in ("Catalog up to date", "New revision applied", "Failed")
            assert (client.point / "revision").read_text() == "2"
        near.server("snapshot", fqrn)

        # The other one rots: what comes from it is refused, and comes from the good one.
        assert rot(far.storage) > FILES
        for client in clients:
            client.drop()
        all_show(2)

        # Mended, both are used again, and a last revision reaches everybody over both.
        subprocess.run(["rm", "-rf", far.storage, far.spool, far.prefix / "etc"], check=True)
        far = replicas.add(tmp_path / "mirror2", source.url, publisher.public_key, fqrn)
        far.server("snapshot", fqrn)
        with publisher.transaction() as union:
            fill(union, 3)
        for mirror in (near, far):
            mirror.server("snapshot", fqrn)
            assert "no problems found" in mirror.server("check", fqrn).stdout
        asked = [len(one.asked) for one in boxes]
        for client in clients:
            client.drop()
            wait_until(partial(client.shows, "3"), 30, "the client sees the last revision")
        all_show(3)
        assert all(len(one.asked) > before for one, before in zip(boxes, asked, strict=True)), "each its nearest"
