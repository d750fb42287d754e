"""The repository server's ASGI application, driven with raw scopes: what is served, what is not, and how."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from nearfs.errors import InvalidInput, NotFound
from nearfs.serve import names
from nearfs.serve.access_log import AccessLog
from nearfs.serve.app import RepositoryApp
from nearfs.serve.file_reply import PIECE_BYTES, READ_AT_ONCE_BYTES
from nearfs.serve.roots import Roots

FQRN = "test.example.org"
DIGITS = "d3d49a5c64f21f36936ab350d49aaf57585b9a"
CATALOG = f"data/6e/{DIGITS}C"
BODY = bytes(range(200)) * 5


class Answer:
    """What the application sent for one request."""

    def __init__(self, sent: list[dict[str, Any]]) -> None:
        self.status: int = sent[0]["status"]
        self.headers: dict[bytes, bytes] = dict(sent[0]["headers"])
        self.parts: list[bytes] = [message["body"] for message in sent[1:]]
        self.body = b"".join(self.parts)
        assert [message["type"] for message in sent[1:]] == ["http.response.body"] * len(self.parts)
        assert [message["more_body"] for message in sent[1:]] == [True] * (len(self.parts) - 1) + [False]


def ask(app: RepositoryApp, path: str, method: str = "GET", raw_path: bytes | None = None, **headers: str) -> Answer:
    """Returns the answer to one request; header names are given with `_` for `-`."""
    sent: list[Any] = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8", "surrogateescape") if raw_path is None else raw_path,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return Answer(sent)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Returns a root with one repository, files that must not be served, and links in and out."""
    root = tmp_path / "srv"
    repository = root / FQRN
    for name in (
        ".cvmfspublished",
        ".cvmfswhitelist",
        ".cvmfsreflog",
        ".cvmfs_master_replica",
        ".cvmfs_last_snapshot",
        ".cvmfs_status.json",
        ".htaccess",
        CATALOG,
        f"data/6e/{DIGITS}",
        f"data/fc/{DIGITS}-rmd160",
        f"data/fc/{DIGITS}-shake128P",
        f"data/6e/{DIGITS}T",
        f"data/txn/{DIGITS}",
        "data/6e/short",
        f"{FQRN}.key",
        "../info/v1/repositories.json",
        "../info/v1/meta.json",
        "../info/v1/other.json",
        "../secret",
        "../../outside",
    ):
        path = Path(os.path.normpath(repository / name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(BODY)
    (repository / f".cvmfsalt-6e{DIGITS}C").symlink_to(CATALOG)
    (repository / f"data/00/{DIGITS}").parent.mkdir()
    (repository / f"data/00/{DIGITS}").symlink_to("../../../../outside")
    (repository / f"data/01/{DIGITS}").mkdir(parents=True)
    (repository / "data/02").symlink_to(tmp_path)
    (tmp_path / DIGITS).write_bytes(BODY)
    (repository / "data/03").mkdir()
    os.mkfifo(repository / f"data/03/{DIGITS}")
    (repository / f"data/03/{DIGITS}C").symlink_to(f"{DIGITS}C")
    (root / "elsewhere.example.org").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/.cvmfspublished").write_bytes(BODY)
    (root / "alias.example.org").symlink_to(FQRN)
    return root


@pytest.fixture
def app(root: Path) -> RepositoryApp:
    """Returns the application over `root`."""
    return RepositoryApp(Roots([root], {}))


@pytest.mark.parametrize(
    ("path", "content_type", "seconds"),
    [
        (f"{FQRN}/.cvmfspublished", b"application/x-cvmfs", 61),
        (f"{FQRN}/.cvmfswhitelist", b"application/x-cvmfs", 61),
        (f"{FQRN}/.cvmfsreflog", b"application/x-cvmfs", 61),
        (f"{FQRN}/.cvmfs_master_replica", b"application/x-cvmfs", 61),
        (f"{FQRN}/.cvmfs_last_snapshot", b"application/x-cvmfs", 61),
        (f"{FQRN}/.cvmfs_status.json", b"application/x-cvmfs", 61),
        (f"{FQRN}/.cvmfsalt-6e{DIGITS}C", b"application/x-cvmfs", 61),
        (f"{FQRN}/{CATALOG}", b"application/octet-stream", 259200),
        (f"{FQRN}/data/6e/{DIGITS}", b"application/octet-stream", 259200),
        (f"{FQRN}/data/fc/{DIGITS}-rmd160", b"application/octet-stream", 259200),
        (f"{FQRN}/data/fc/{DIGITS}-shake128P", b"application/octet-stream", 259200),
        ("alias.example.org/.cvmfspublished", b"application/x-cvmfs", 61),
        ("info/v1/repositories.json", b"application/json", 61),
        ("info/v1/meta.json", b"application/json", 61),
    ],
)
def test_every_name_of_a_repository_is_served(app: RepositoryApp, path: str, content_type: bytes, seconds: int) -> None:
    answer = ask(app, f"/cvmfs/{path}")
    assert (answer.status, answer.body) == (200, BODY)
    assert answer.headers == {
        b"content-type": content_type,
        b"cache-control": b"max-age=%d" % seconds,
        b"accept-ranges": b"bytes",
        b"content-length": b"1000",
    }


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "*",
        "/cvmfs",
        "/cvmfs/",
        f"/cvmfs/{FQRN}",
        f"/cvmfs/{FQRN}/",
        f"/cvmfs/{FQRN}/data",
        f"/cvmfs/{FQRN}/data/6e/",
        f"/cvmfs/{FQRN}/.htaccess",
        f"/cvmfs/{FQRN}/{FQRN}.key",
        f"/cvmfs/{FQRN}/data/txn/{DIGITS}",
        f"/cvmfs/{FQRN}/data/6e/{DIGITS}T",
        f"/cvmfs/{FQRN}/data/6e/short",
        f"/cvmfs/{FQRN}/data/6E/{DIGITS}",
        f"/cvmfs/{FQRN}/data/6e/{DIGITS}-md5",
        f"/cvmfs/{FQRN}/{CATALOG}/",
        f"/cvmfs/{FQRN}/{CATALOG}\n",
        f"/cvmfs/{FQRN}/{CATALOG}\0",
        f"/cvmfs/{FQRN}/{CATALOG}\0.json",
        f"/cvmfs/{FQRN}//{CATALOG}",
        f"//cvmfs/{FQRN}/{CATALOG}",
        f"/cvmfs/{FQRN}/./{CATALOG}",
        f"/cvmfs/{FQRN}/../secret",
        f"/cvmfs/{FQRN}/../../outside",
        f"/cvmfs/{FQRN}/data/../.cvmfspublished",
        f"/cvmfs/{FQRN}/data/../../../outside",
        "/cvmfs/../cvmfs/secret",
        "/cvmfs/../.cvmfspublished",
        "/cvmfs/./.cvmfspublished",
        "/cvmfs/.../.cvmfspublished",
        f"/cvmfs/{FQRN}\\..\\outside",
        f"/cvmfs/{FQRN}/%2e%2e/secret",
        f"/cvmfs/{FQRN}/data/6e/{DIGITS}%00",
        "/cvmfs/info/v1/other.json",
        "/cvmfs/info/.cvmfspublished",
        "/cvmfs/secret",
        f"/{FQRN}/.cvmfspublished",
        "/etc/passwd",
        f"/cvmfs/{FQRN}/.cvmfspublished?x",
        f"/cvmfs/absent.example.org/{CATALOG}",
        f"/cvmfs/{FQRN}/data/ff/{DIGITS}",
        f"/cvmfs/{'a' * 300}/.cvmfspublished",
        "/cvmfs/" + "a/" * 5000,
        "/cvmfs/tést.example.org/.cvmfspublished",
        f"/cvmfs/{FQRN}/data/6\u0665/{DIGITS}",
    ],
)
def test_nothing_else_is_served(app: RepositoryApp, path: str) -> None:
    answer = ask(app, path)
    assert (answer.status, answer.body) == (404, b"not found\n")
    assert answer.headers[b"content-length"] == b"10"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (f"{FQRN}/data/00/{DIGITS}", "a link out of the root"),
        (f"{FQRN}/data/01/{DIGITS}", "a directory"),
        (f"{FQRN}/data/02/{DIGITS}", "a directory that is a link out of the root"),
        (f"{FQRN}/data/03/{DIGITS}", "a FIFO"),
        (f"{FQRN}/data/03/{DIGITS}C", "a link to itself"),
        ("elsewhere.example.org/.cvmfspublished", "a repository that is a link out of the root"),
    ],
)
def test_no_link_and_no_special_file_leads_out(app: RepositoryApp, path: str, why: str) -> None:
    assert ask(app, f"/cvmfs/{path}").status == 404, why


def test_an_encoded_slash_is_no_slash(app: RepositoryApp) -> None:
    path = f"/cvmfs/{FQRN}/.cvmfspublished"
    assert ask(app, path, raw_path=path.replace("s/t", "s%2Ft").encode()).status == 404
    assert ask(app, path, raw_path=path.replace(".cvmfsp", "%2Ecvmfsp").encode()).status == 200


def test_a_repository_may_lie_anywhere_when_it_is_named(root: Path, tmp_path: Path) -> None:
    app = RepositoryApp(Roots([root], {"elsewhere.example.org": root / "elsewhere.example.org"}))
    assert ask(app, "/cvmfs/elsewhere.example.org/.cvmfspublished").status == 200
    only = RepositoryApp(Roots([], {"elsewhere.example.org": tmp_path / "elsewhere"}))
    assert ask(only, "/cvmfs/elsewhere.example.org/.cvmfspublished").status == 200
    assert ask(only, f"/cvmfs/{FQRN}/.cvmfspublished").status == 404
    assert ask(only, "/cvmfs/info/v1/meta.json").status == 404


def test_the_first_root_with_the_repository_serves_it(root: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    for name in (f"{FQRN}/.cvmfsempty", "other.example.org/.cvmfspublished"):
        (second / name).parent.mkdir(parents=True)
        (second / name).write_bytes(b"second")
    app = RepositoryApp(Roots([root, second], {}))
    assert ask(app, "/cvmfs/other.example.org/.cvmfspublished").body == b"second"
    assert ask(app, f"/cvmfs/{FQRN}/.cvmfspublished").body == BODY
    assert ask(app, f"/cvmfs/{FQRN}/.cvmfsempty").status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "BREW"])
def test_other_methods_are_refused_with_allow(app: RepositoryApp, method: str) -> None:
    answer = ask(app, f"/cvmfs/{FQRN}/.cvmfspublished", method)
    assert (answer.status, answer.headers[b"allow"]) == (405, b"GET, HEAD")


def test_head_tells_the_length_and_sends_nothing(app: RepositoryApp) -> None:
    answer = ask(app, f"/cvmfs/{FQRN}/{CATALOG}", "HEAD", range="bytes=0-9")
    assert (answer.status, answer.headers[b"content-length"], answer.body) == (200, b"1000", b"")
    missing = ask(app, f"/cvmfs/{FQRN}/nothing", "HEAD")
    assert (missing.status, missing.headers[b"content-length"], missing.body) == (404, b"10", b"")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, 999),
        ("bytes=10-19", 10, 19),
        ("bytes=990-5000", 990, 999),
        ("bytes=999-", 999, 999),
        ("bytes=-1", 999, 999),
        ("bytes=-5000", 0, 999),
        ("Bytes= 5-6 ", 5, 6),
        ("bytes=0-999999999999999999", 0, 999),
    ],
)
def test_a_single_range_is_honoured(app: RepositoryApp, asked: str, first: int, last: int) -> None:
    answer = ask(app, f"/cvmfs/{FQRN}/{CATALOG}", range=asked)
    assert (answer.status, answer.body) == (206, BODY[first : last + 1])
    assert answer.headers[b"content-range"] == b"bytes %d-%d/1000" % (first, last)
    assert answer.headers[b"content-length"] == b"%d" % (last + 1 - first)
    assert answer.headers[b"cache-control"] == b"max-age=259200"


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=999999999999999999-"])
def test_a_range_outside_the_file_is_416(app: RepositoryApp, asked: str) -> None:
    answer = ask(app, f"/cvmfs/{FQRN}/{CATALOG}", range=asked)
    assert (answer.status, answer.headers[b"content-range"]) == (416, b"bytes */1000")
    assert int(answer.headers[b"content-length"]) == len(answer.body)


@pytest.mark.parametrize(
    "asked",
    ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=0-1,4-5", "items=0-1", "bytes=-1-2",
     "bytes=+1-2", "bytes=0x1-2", "bytes=" + "9" * 5000 + "-", "bytes=1-2\n"],
)  # fmt: skip
def test_a_malformed_or_multiple_range_is_ignored(app: RepositoryApp, asked: str) -> None:
    answer = ask(app, f"/cvmfs/{FQRN}/{CATALOG}", range=asked)
    assert (answer.status, answer.body) == (200, BODY)


def test_if_range_never_matches_since_there_are_no_validators(app: RepositoryApp) -> None:
    assert ask(app, f"/cvmfs/{FQRN}/{CATALOG}", range="bytes=0-1", if_range='"x"').status == 200


@pytest.mark.parametrize(
    "size", [0, 1, READ_AT_ONCE_BYTES - 1, READ_AT_ONCE_BYTES, 3 * PIECE_BYTES, 3 * PIECE_BYTES + 7]
)
def test_files_of_every_size_arrive_whole_and_in_bounded_pieces(app: RepositoryApp, root: Path, size: int) -> None:
    content = os.urandom(size)
    (root / FQRN / f"data/6e/{DIGITS}P").write_bytes(content)
    answer = ask(app, f"/cvmfs/{FQRN}/data/6e/{DIGITS}P")
    assert (answer.status, answer.body) == (200, content)
    assert max(map(len, answer.parts)) <= PIECE_BYTES
    if size > 1:
        part = ask(app, f"/cvmfs/{FQRN}/data/6e/{DIGITS}P", range=f"bytes=1-{size}")
        assert (part.status, part.body) == (206, content[1:])


def test_a_file_that_becomes_shorter_breaks_off_instead_of_padding(app: RepositoryApp, root: Path) -> None:
    path = root / FQRN / f"data/6e/{DIGITS}P"
    path.write_bytes(bytes(4 * PIECE_BYTES))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 2:
            os.truncate(path, 2 * PIECE_BYTES)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    name = f"/cvmfs/{FQRN}/data/6e/{DIGITS}P"
    scope = {"type": "http", "method": "GET", "path": name, "raw_path": name.encode(), "headers": []}
    with pytest.raises(OSError, match="shorter"):
        asyncio.run(app(scope, receive, send))
    assert sum(len(message.get("body", b"")) for message in sent) == 2 * PIECE_BYTES
    assert sent[-1]["more_body"] is True


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_not_called_missing(app: RepositoryApp, root: Path) -> None:
    (root / FQRN / ".cvmfspublished").chmod(0)
    assert ask(app, f"/cvmfs/{FQRN}/.cvmfspublished").status == 500


def test_a_failing_disk_is_not_called_missing(app: RepositoryApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, length: int, offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("nearfs.serve.roots.os.pread", broken)
    assert ask(app, f"/cvmfs/{FQRN}/.cvmfspublished").status == 500


def test_no_descriptor_stays_open(app: RepositoryApp, root: Path) -> None:
    def open_descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_descriptors()
    for path in (
        f"{FQRN}/{CATALOG}",
        f"{FQRN}/data/00/{DIGITS}",
        f"{FQRN}/data/01/{DIGITS}",
        f"{FQRN}/data/03/{DIGITS}",
    ):
        ask(app, f"/cvmfs/{path}")
        ask(app, f"/cvmfs/{path}", range="bytes=5000-")
    assert open_descriptors() == before


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    """Returns where the access log goes."""
    return tmp_path / "access.jsonl"


def test_the_access_log_counts_requests_and_body_bytes(root: Path, log_file: Path) -> None:
    (root / FQRN / f"data/6e/{DIGITS}P").write_bytes(bytes(PIECE_BYTES + 1))
    with AccessLog(log_file) as log:
        app = RepositoryApp(Roots([root], {}), log)
        ask(app, f"/cvmfs/{FQRN}/{CATALOG}")
        ask(app, f"/cvmfs/{FQRN}/{CATALOG}", "HEAD")
        ask(app, f"/cvmfs/{FQRN}/{CATALOG}", range="bytes=1-5")
        ask(app, '/cvmfs/"\n\udcff')
        ask(app, f"/cvmfs/{FQRN}/data/6e/{DIGITS}P")
        ask(app, "/", "POST")
    lines = [json.loads(line) for line in log_file.read_text().splitlines()]
    assert [(line["method"], line["status"], line["bytes"]) for line in lines] == [
        ("GET", 200, 1000),
        ("HEAD", 200, 0),
        ("GET", 206, 5),
        ("GET", 404, 10),
        ("GET", 200, PIECE_BYTES + 1),
        ("POST", 405, 29),
    ]
    assert lines[0]["path"] == f"/cvmfs/{FQRN}/{CATALOG}"
    assert lines[3]["path"] == '/cvmfs/"\n\udcff'
    assert all(line["time"] > 1e9 for line in lines)


def test_other_protocols_are_refused(app: RepositoryApp) -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError("nothing is received or sent")

    with pytest.raises(RuntimeError, match="websocket"):
        asyncio.run(app({"type": "websocket"}, never, never))


def test_impossible_directories_and_names_are_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotFound, match="absent"):
        Roots([tmp_path / "absent"], {})
    with pytest.raises(InvalidInput, match="not a directory"):
        Roots([tmp_path / "file"], {})
    for name in ("..", ".", "", "a/b", "info", ".hidden", "a\0b", "a b"):
        with pytest.raises(InvalidInput):
            Roots([], {name: tmp_path})
        assert not names.is_repository_name(name)
