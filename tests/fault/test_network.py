"""Networks that fail in every way, under real mounts: how long a caller waits, and that no byte is ever wrong.

Each test states its bound in time-outs; `TIMEOUT_S` is what the client is told, `SLACK_S` what a busy machine needs to
start a process and mount.
"""

import contextlib
import datetime as dt
import errno
import hashlib
import ipaddress
import os
import re
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import mounts, processes
from tests.support.misbehaving import Behaviour, Box, box
from tests.support.publishing import Publisher
from tests.support.serving import Server, free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]

TIMEOUT_S = 2
SLACK_S = 6.0
COUNT = 20
Served = tuple[Publisher, Server]
Mount = Callable[..., Path]


@pytest.fixture
def served(publisher: Publisher, server: Callable[[Path], Server]) -> Served:
    publisher.create()
    with publisher.transaction() as tree:
        for number in range(COUNT):
            (tree / f"file-{number}").write_text(content(number))
    return publisher, server(publisher.storage.parent)


@pytest.fixture
def boxes() -> Iterator[Callable[..., Box]]:
    with contextlib.ExitStack() as stack:

        def start(behaviour: Behaviour = "good", *args: str) -> Box:
            running = stack.enter_context(box(*args))
            running.behaviour = behaviour
            return running

        yield start


def content(number: int) -> str:
    # Hardly compressible, so that a trickle of it takes minutes.
    return "".join(hashlib.sha256(f"{number}-{block}".encode()).hexdigest() for block in range(300))


def settings(publisher: Publisher, hosts: str, cache: Path, **more: str) -> dict[str, str]:
    timeouts = {"CVMFS_TIMEOUT": str(TIMEOUT_S), "CVMFS_TIMEOUT_DIRECT": str(TIMEOUT_S)}
    backoff = {"CVMFS_BACKOFF_INIT": "1", "CVMFS_BACKOFF_MAX": "1"}
    return publisher.demand_settings(hosts, cache, **(timeouts | backoff | more))


@contextlib.contextmanager
def within(time_outs: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    limit = time_outs * TIMEOUT_S + SLACK_S
    assert took < limit, f"took {took:.1f} s, the bound is {limit:.1f} s"


def read_all(point: Path, numbers: range = range(COUNT)) -> None:
    for number in numbers:
        assert (point / f"file-{number}").read_text() == content(number)


def read_or_fail(point: Path, number: int) -> bool:
    """Reads a file; whatever comes is right, or it is EIO."""
    try:
        assert (point / f"file-{number}").read_text() == content(number)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False
    return True


def test_ten_silent_hosts_cost_one_time_out_in_all(
    served: Served, boxes: Callable[..., Box], mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    silent = [boxes("silent", running.url) for _ in range(10)]
    hosts = ";".join([*(host.url for host in silent), f"http://127.0.0.1:{free_port()}", running.url])
    with within(1.5):
        point = mount(publisher.fqrn, settings(publisher, hosts, tmp_path / "cache"))
        read_all(point)
    assert os.getxattr(point, "user.host").decode().startswith(running.url)


def test_ten_silent_proxies_cost_one_time_out_in_all(
    served: Served, boxes: Callable[..., Box], mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    silent, good = [boxes("silent") for _ in range(10)], boxes()
    groups = "|".join(proxy.url for proxy in silent[:5]) + ";" + ";".join(proxy.url for proxy in silent[5:])
    proxies = f"{groups};http://127.0.0.1:{free_port()};{good.url};DIRECT"
    with within(1.5):
        point = mount(publisher.fqrn, settings(publisher, running.url, tmp_path / "cache", CVMFS_HTTP_PROXY=proxies))
        read_all(point)
    assert os.getxattr(point, "user.proxy").decode() == good.url
    assert len(running.requests()) == len([url for url in good.asked if running.url in url]), "past the proxies"


@pytest.mark.parametrize("behaviour", ["silent", "trickle", "truncate", "corrupt", "503", "404", "loop"])
def test_a_host_that_goes_bad_is_left_and_no_byte_is_wrong(
    served: Served, boxes: Callable[..., Box], mount: Mount, tmp_path: Path, behaviour: Behaviour
) -> None:
    publisher, running = served
    bad = boxes("good", running.url)
    more = {"CVMFS_FOLLOW_REDIRECTS": "yes"} if behaviour == "loop" else {}
    hosts = f"{bad.url};{running.url}"
    point = mount(publisher.fqrn, settings(publisher, hosts, tmp_path / "cache", **more))
    read_all(point, range(5))
    bad.behaviour = behaviour
    # The attempt, its repetition and a back-off of a second at most.
    with within(2.5):
        read_all(point)
    assert os.getxattr(point, "user.host").decode().startswith(running.url)


def test_a_proxy_that_corrupts_never_gets_a_wrong_byte_through(
    served: Served, boxes: Callable[..., Box], mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    proxy = boxes()
    point = mount(publisher.fqrn, settings(publisher, running.url, tmp_path / "cache", CVMFS_HTTP_PROXY=proxy.url))
    proxy.behaviour = "corrupt"
    assert not any(read_or_fail(point, number) for number in range(3))
    proxy.behaviour = "good"
    read_all(point)


def test_the_network_may_go_and_come_back_amid_reads(
    served: Served, boxes: Callable[..., Box], mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    mirrors = [boxes("good", running.url) for _ in range(3)]
    hosts = ";".join(mirror.url for mirror in mirrors)
    point = mount(publisher.fqrn, settings(publisher, hosts, tmp_path / "cache"))
    read_all(point, range(3))
    for mirror in mirrors:
        mirror.behaviour = "silent"
    for number in (3, 4):
        # The attempt, a back-off of a second at most, its repetition, and a look at the other hosts beside them.
        with within(3.0):
            assert not read_or_fail(point, number)
    read_all(point, range(3))
    for mirror in mirrors:
        mirror.behaviour = "good"
    with within(1.0):
        read_all(point)


def test_a_slow_proxy_is_kept_where_the_alternative_is_no_proxy(
    served: Served, boxes: Callable[..., Box], mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    proxy = boxes()
    proxies = f"{proxy.url};DIRECT"
    point = mount(publisher.fqrn, settings(publisher, running.url, tmp_path / "cache", CVMFS_HTTP_PROXY=proxies))
    proxy.behaviour = "trickle"
    before = len(running.requests())
    for number in range(3):
        with within(3.0):
            read_or_fail(point, number)
    assert os.getxattr(point, "user.proxy").decode() == proxy.url
    proxy.behaviour = "good"
    read_all(point)
    assert before + COUNT <= len(running.requests()) <= len([url for url in proxy.asked if running.url in url])


def overtaken(publisher: Publisher, scratch: Path) -> Path:
    """Copies the repository, publishes the file `new`, and returns what to serve as a mirror that lags behind."""
    root = scratch / "old" / "cvmfs"
    root.mkdir(parents=True)
    processes.run(["cp", "-a", publisher.storage, root])
    with publisher.transaction() as tree:
        (tree / "new").write_text("new")
    return root


def test_a_stale_mirror_is_left_for_one_that_has_what_the_client_has(
    served: Served, server: Callable[[Path], Server], mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    stale, cache = server(overtaken(publisher, tmp_path)), tmp_path / "cache"
    point = tmp_path / "first"
    with mounts.mounted(publisher.fqrn, point, settings(publisher, running.url, cache)):
        assert (point / "new").read_text() == "new"
    with within(0.5):
        point = mount(publisher.fqrn, settings(publisher, f"{stale.url};{running.url}", cache))
    assert (point / "new").read_text() == "new"
    assert os.getxattr(point, "user.host").decode().startswith(running.url)
    assert any("published" in str(request) for request in stale.requests()), "the stale mirror was asked first"


def test_a_mirror_that_lags_behind_another_is_left_soon_after_the_mount(
    served: Served, server: Callable[[Path], Server], mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    hosts = f"{server(overtaken(publisher, tmp_path)).url};{running.url}"
    point = mount(publisher.fqrn, settings(publisher, hosts, tmp_path / "cache"))

    def is_left() -> bool:
        return os.getxattr(point, "user.host").decode().startswith(running.url)

    wait_until(is_left, TIMEOUT_S + SLACK_S, "the mirror is left")
    # What the old revision needs, the newer mirror has as well.
    read_all(point)


def test_a_mirror_that_lies_about_its_revision_wins_nothing(
    served: Served, server: Callable[[Path], Server], mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    root = tmp_path / "liar" / "cvmfs"
    root.mkdir(parents=True)
    processes.run(["cp", "-a", publisher.storage, root])
    manifest = root / publisher.fqrn / ".cvmfspublished"
    lie = re.sub(rb"(?m)^S\d+$", b"S999999", manifest.read_bytes(), count=1)
    manifest.write_bytes(re.sub(rb"(?m)^C[0-9a-f]{40}$", b"C" + b"1" * 40, lie, count=1))
    liar = server(root)

    def host(point: Path) -> str:
        return os.getxattr(point, "user.host").decode().rpartition("/cvmfs/")[0]

    # Asked first, it is left at the mount; asked second, it draws the client over once, and then no more.
    point = mount(publisher.fqrn, settings(publisher, f"{liar.url};{running.url}", tmp_path / "one"))
    assert host(point) == running.url
    read_all(point)
    point = mount(publisher.fqrn, settings(publisher, f"{running.url};{liar.url}", tmp_path / "two"))
    read_all(point)
    wait_until(lambda: host(point) == liar.url, TIMEOUT_S + SLACK_S, "the mirror is believed")
    talk = [sys.executable, "-m", "nearfs.compat.cvmfs_talk", "-p"]
    socket = tmp_path / "two" / publisher.fqrn / f"cvmfs_io.{publisher.fqrn}"
    assert processes.run([*talk, str(socket), "remount"]).stdout == "Catalog up to date\n"
    assert host(point) == running.url
    read_all(point)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A directory with one self-signed certificate for localhost, and a server's side of it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    directory, private = tmp_path / "authorities", tmp_path / "server.key"
    directory.mkdir()
    public = directory / "site.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return directory, context


@pytest.mark.parametrize("by_proxy", [False, True])
def test_hosts_may_be_asked_over_tls_also_by_a_proxy(
    served: Served,
    boxes: Callable[..., Box],
    mount: Mount,
    tmp_path: Path,
    authority: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    by_proxy: bool,
) -> None:
    publisher, running = served
    proxy = boxes()
    monkeypatch.setenv("X509_CERT_DIR", str(authority[0]))
    with box(running.url, tls=authority[1], name="localhost") as host:
        proxies = proxy.url if by_proxy else "DIRECT"
        more = settings(publisher, host.url, tmp_path / "cache", CVMFS_HTTP_PROXY=proxies)
        point = mount(publisher.fqrn, more)
        read_all(point)
        assert len(host.asked) >= COUNT
    assert bool(proxy.asked) == by_proxy
    assert all(asked == f"CONNECT {host.url.removeprefix('https://')}" for asked in proxy.asked)


def test_a_host_with_a_strangers_certificate_is_not_asked_for_anything(
    served: Served,
    tmp_path: Path,
    authority: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher, running = served
    monkeypatch.delenv("X509_CERT_DIR", raising=False)
    with box(running.url, tls=authority[1], name="localhost") as host:
        more = settings(publisher, host.url, tmp_path / "cache", CVMFS_USE_SSL_SYSTEM_CA="yes")
        with (
            within(1.0),
            pytest.raises(AssertionError, match=r"no TLS with localhost|certificates in"),
            mounts.mounted(publisher.fqrn, tmp_path / "point", more),
        ):
            pass
        assert host.asked == []
