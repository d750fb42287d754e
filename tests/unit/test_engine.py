"""The engine's operations as a loop in Python calls them: answers, error numbers, and what needs no network."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nearfs import _native
from nearfs.client import engine_request
from nearfs.client.options import MountOptions
from nearfs.client.request import Request
from nearfs.config import layers, model
from nearfs.errors import InvalidInput
from tests.support.golden import NAMES, Golden
from tests.support.serving import Server

ROOT = 1
NAME = NAMES[0]


@pytest.fixture
def engine(golden: Golden, server: Callable[[Path], Server], tmp_path: Path) -> Iterator[_native.Engine]:
    running = server(golden.repositories[NAME].root)
    file = tmp_path / "client.conf"
    file.write_text(
        f"CVMFS_SERVER_URL={running.url}/cvmfs/{NAME}\n"
        "CVMFS_HTTP_PROXY=DIRECT\n"
        f"CVMFS_PUBLIC_KEY={golden.repositories[NAME].public_key}\n"
        f"CVMFS_CACHE_BASE={tmp_path / 'cache'}\n"
        "CVMFS_REPOSITORY_TAG=v1\n"
    )
    config = model.client_config(layers.load(NAME, files=[str(file)]))
    request = Request(config, MountOptions(), str(tmp_path))
    opened = _native.open_engine(**engine_request.build(request, request.mountpoint))
    yield opened
    opened.close()


def child(engine: _native.Engine, path: str) -> int:
    ino = ROOT
    for name in path.split("/"):
        ino = engine.lookup(ino, name.encode()).ino
    return ino


def test_operations_answer(engine: _native.Engine) -> None:
    attr = engine.lookup(ROOT, b"hello.txt")
    assert stat.S_ISREG(attr.mode)
    assert (attr.size, attr.nlink) == (12, 1)
    fh, keep_cache, direct_io = engine.open(attr.ino, os.O_RDONLY)
    assert (keep_cache, direct_io) == (True, False)
    assert engine.read(fh, 0, 4096) == b"hello world\n"
    assert engine.read(fh, 6, 3) == b"wor"
    assert engine.read(fh, 100, 3) == b""
    engine.release(fh)
    assert engine.getxattr(ROOT, b"user.fqrn", 0) == NAME.encode()
    assert b"user.fqrn" in engine.listxattr(ROOT)
    assert engine.statfs()[3] > 3000
    assert engine.revision == 2


def test_pages_of_a_listing_join_without_gap_or_repetition(engine: _native.Engine) -> None:
    directory = child(engine, "many")
    whole = engine.readdir(directory, 0, 1 << 20)
    paged, at = [], 0
    while page := engine.readdir(directory, at, 7):
        assert len(page) <= 7
        paged += [name for name, _, _ in page]
        at = page[-1][2]
    assert paged == [name for name, _, _ in whole]
    assert paged[:2] == [b".", b".."]
    assert len(set(paged)) == len(paged) > 2900


@pytest.mark.parametrize(
    ("question", "number"),
    [
        (lambda engine: engine.lookup(ROOT, b"no such name"), errno.ENOENT),
        (lambda engine: engine.lookup_nearby(ROOT, b"no such name"), errno.ENOENT),
        (lambda engine: engine.getattr(1 << 40), errno.ENOENT),
        (lambda engine: engine.lookup(child(engine, "hello.txt"), b"x"), errno.ENOTDIR),
        (lambda engine: engine.readdir(child(engine, "hello.txt"), 0, 8), errno.ENOTDIR),
        (lambda engine: engine.open(ROOT, os.O_RDONLY), errno.EISDIR),
        (lambda engine: engine.readlink(ROOT), errno.EINVAL),
        (lambda engine: engine.getxattr(ROOT, b"user.no_such_attribute", 0), errno.ENODATA),
        (lambda engine: engine.read(1 << 40, 0, 8), errno.EBADF),
    ],
)
def test_refusals_carry_their_number(
    engine: _native.Engine, question: Callable[[_native.Engine], object], number: int
) -> None:
    with pytest.raises(OSError) as caught:
        question(engine)
    assert (caught.value.errno, caught.value.strerror) == (number, os.strerror(number))


def test_what_needs_the_network_is_not_answered_as_nearby(engine: _native.Engine) -> None:
    fetched = engine.counters()["fetches"]
    hello = child(engine, "hello.txt")
    assert engine.open_nearby(hello, os.O_RDONLY) is None
    assert engine.counters()["fetches"] == fetched, "asking has fetched nothing"
    engine.release(engine.open(hello, os.O_RDONLY)[0])
    assert engine.open_nearby(hello, os.O_RDONLY) is not None

    nested = child(engine, "nested/c1")
    assert engine.lookup_nearby(nested, b".") is None
    assert engine.readdir_nearby(nested, 0, 8) is None
    listed = engine.readdir(nested, 0, 8)
    nearby = engine.readdir_nearby(nested, 0, 8)
    assert nearby is not None
    assert [entry[0] for entry in nearby] == [entry[0] for entry in listed]


def test_a_chunk_is_nearby_once_it_is_cached(engine: _native.Engine) -> None:
    big = engine.lookup(child(engine, "big"), b"random")
    assert int(engine.getxattr(big.ino, b"user.chunks", 0)) > 1
    opened = engine.open_nearby(big.ino, os.O_RDONLY)
    assert opened is not None, "opening a chunked file fetches nothing"
    fh = opened[0]
    assert engine.read_nearby(fh, 0, 4096) is None
    head = engine.read(fh, 0, 4096)
    assert engine.read_nearby(fh, 0, 4096) == head
    assert engine.read_nearby(fh, 0, big.size) is None, "later chunks are still missing"
    whole = engine.read(fh, 0, big.size)
    assert engine.read_nearby(fh, 0, big.size) == whole
    engine.release(fh)


def test_requests_are_counted_by_name(engine: _native.Engine) -> None:
    before = engine.counters()
    engine.getattr(ROOT)
    engine.forget(3)
    engine.count("opendir")
    engine.readdir(ROOT, 0, 8)
    after = engine.counters()
    changed = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert changed == {"upcall_getattr": 1, "upcall_forget": 3, "upcall_opendir": 1}
    with pytest.raises(InvalidInput):
        engine.count("no such operation")


def test_a_closed_engine_refuses(engine: _native.Engine) -> None:
    engine.close()
    with pytest.raises(InvalidInput):
        engine.getattr(ROOT)
    engine.close()
