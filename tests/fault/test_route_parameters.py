"""The way to the hosts as the configuration chooses it, under real mounts: who is asked, when, and with which words.

What happens when a way fails is in test_network, test_proxies and test_ways. Bounds: `RESET_S` is configured, `SLACK_S`
is what a busy machine needs.
"""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import processes, web
from tests.support.misbehaving import box
from tests.support.proxying import proxying
from tests.support.publishing import Publisher
from tests.support.serving import Server, free_port

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]
COUNT = 24
RESET_S, SLACK_S = 2, 15.0
LONG_S = 8.0  # longer than a client without the parameter takes to give up
Mount = Callable[..., Path]
Served = tuple[Publisher, Server]


@pytest.fixture
def served(publisher: Publisher, server: Callable[[Path], Server]) -> Served:
    publisher.create()
    with publisher.transaction() as tree:
        for number in range(COUNT):
            (tree / f"file-{number}").write_text(content(number))
    return publisher, server(publisher.storage.parent)


def content(number: int) -> str:
    return f"{number}\n" * 100


def read(point: Path, *numbers: int) -> None:
    for number in numbers:
        assert (point / f"file-{number}").read_text() == content(number)


def attribute(point: Path, name: str) -> str:
    return os.getxattr(point, f"user.{name}").decode()


@dataclass
class Front:
    """A host in front of the real one: what it is asked, with which header lines, and how it answers about distance."""

    url: str
    order: bytes = b""
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    away: str = ""
    """Where it sends whoever asks for an object; empty where it answers itself."""


@contextlib.contextmanager
def front(upstream: str) -> Iterator[Front]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            made.asked.append(self.path)
            made.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, body = 200, made.order
            if made.away and "/data/" in self.path:
                status, body = 302, b""
            elif "/api/v1.0/geo/" not in self.path:
                there = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=web.LIMIT_S)
                with contextlib.closing(there):
                    there.request("GET", self.path)
                    answer = there.getresponse()
                    status, body = answer.status, answer.read()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", made.away + self.path)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
            pass

    with web.listening(Handler) as url:
        made = Front(url)
        yield made


def test_fallback_proxies_stand_for_direct(served: Served, mount: Mount, tmp_path: Path) -> None:
    publisher, running = served
    with proxying() as fallback:
        dead = f"http://127.0.0.1:{free_port()}"
        settings = publisher.demand_settings(running.url, tmp_path / "cache", CVMFS_MAX_RETRIES="0")
        settings |= {"CVMFS_HTTP_PROXY": f"{dead};DIRECT", "CVMFS_FALLBACK_PROXY": fallback.url}
        point = mount(publisher.fqrn, settings)
        read(point, *range(4))
        assert attribute(point, "proxy") == fallback.url
        assert attribute(point, "proxy_list").splitlines() == [dead, fallback.url], "DIRECT gives way to fallbacks"
        assert len(fallback.asked) == len(running.requests())


def test_sharding_uses_all_proxies_of_a_group(served: Served, mount: Mount, tmp_path: Path) -> None:
    publisher, running = served
    with proxying() as one, proxying() as two:
        settings = publisher.demand_settings(running.url, tmp_path / "cache", CVMFS_PROXY_SHARD="yes")
        point = mount(publisher.fqrn, settings | {"CVMFS_HTTP_PROXY": f"{one.url}|{two.url}"})
        read(point, *range(COUNT))
        objects = [[url for url in proxy.asked if "/data/" in url] for proxy in (one, two)]
        assert all(objects), [len(asked) for asked in objects]
        assert not set(objects[0]) & set(objects[1]), "an object always goes by the same proxy"
    settings |= {"CVMFS_CACHE_BASE": str(tmp_path / "other"), "CVMFS_PROXY_SHARD": "no"}
    with proxying() as one, proxying() as two:
        point = mount(publisher.fqrn, settings | {"CVMFS_HTTP_PROXY": f"{one.url}|{two.url}"})
        read(point, *range(COUNT))
        assert sorted(bool(proxy.asked) for proxy in (one, two)) == [False, True], "else one proxy is chosen"


def test_the_first_host_is_tried_again_after_the_configured_time(served: Served, mount: Mount, tmp_path: Path) -> None:
    publisher, running = served
    with box(running.url) as first:
        hosts = f"{first.url};{running.url}"
        more = {"CVMFS_HOST_RESET_AFTER": str(RESET_S), "CVMFS_MAX_RETRIES": "0"}
        point = mount(publisher.fqrn, publisher.demand_settings(hosts, tmp_path / "cache", **more))
        first.behaviour = "503"
        read(point, 0)
        assert attribute(point, "host").startswith(running.url)
        first.behaviour = "good"
        left = iter(range(1, COUNT))

        def is_back() -> bool:
            read(point, next(left))
            return attribute(point, "host").startswith(first.url)

        begun = time.monotonic()
        while not is_back():
            time.sleep(0.5)
            assert time.monotonic() - begun < RESET_S + SLACK_S
        assert time.monotonic() - begun > RESET_S / 2, "not before its time"


def test_the_first_proxy_group_is_tried_again_after_the_configured_time(
    served: Served, mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    with proxying() as first, proxying() as second:
        more = {"CVMFS_PROXY_RESET_AFTER": str(RESET_S), "CVMFS_MAX_RETRIES": "0"}
        settings = publisher.demand_settings(running.url, tmp_path / "cache", **more)
        point = mount(publisher.fqrn, settings | {"CVMFS_HTTP_PROXY": f"{first.url};{second.url}"})
        first.is_broken = True
        read(point, 0)
        assert attribute(point, "proxy") == second.url
        first.is_broken = False
        before, left = len(first.asked), iter(range(1, COUNT))

        def is_asked_again() -> bool:
            read(point, next(left))
            return len(first.asked) > before

        begun = time.monotonic()
        while not is_asked_again():
            time.sleep(0.5)
            assert time.monotonic() - begun < RESET_S + SLACK_S
        assert attribute(point, "proxy") == first.url


def test_a_client_that_never_gives_up_waits_for_its_host_and_lets_the_killed_go(
    served: Served, mount: Mount, tmp_path: Path
) -> None:
    publisher, running = served
    with box(running.url) as host:
        more = {"CVMFS_FAILOVER_INDEFINITELY": "yes", "CVMFS_MAX_RETRIES": "0", "CVMFS_BACKOFF_MAX": "1"}
        point = mount(publisher.fqrn, publisher.demand_settings(host.url, tmp_path / "cache", **more))
        host.behaviour = "refuse"
        found: list[str] = []
        reader = threading.Thread(target=lambda: found.append((point / "file-0").read_text()))
        reader.start()
        waiting = [sys.executable, "-c", "import sys; open(sys.argv[1]).read()", str(point / "file-1")]
        with subprocess.Popen(waiting, env=processes.marked_environment()) as victim:
            time.sleep(LONG_S)
            assert reader.is_alive(), "neither an answer nor an error"
            victim.kill()
            assert victim.wait(SLACK_S) == -signal.SIGKILL
        host.behaviour = "good"
        reader.join(SLACK_S)
        assert found == [content(0)]


def test_hosts_are_sorted_by_distance_and_limited_in_number(served: Served, mount: Mount, tmp_path: Path) -> None:
    publisher, running = served
    with front(running.url) as near:
        # The same machine by another name: as distances are told of names.
        far = near.url.replace("127.0.0.1", "localhost")
        near.order = b"1,2\n"  # of the names as they are sorted: 127.0.0.1, localhost
        more = {"CVMFS_USE_GEOAPI": "yes", "CVMFS_PROXY_TEMPLATE": "here"}
        settings = publisher.demand_settings(f"{far};{near.url}", tmp_path / "cache", **more)
        point = mount(publisher.fqrn, settings)
        assert [path for path in near.asked if "/geo/here/127.0.0.1,localhost" in path]
        base = f"/cvmfs/{publisher.fqrn}"
        assert attribute(point, "host_list") == f"{near.url}{base};{far}{base}"
        settings |= {"CVMFS_MAX_SERVERS": "1", "CVMFS_CACHE_BASE": str(tmp_path / "other")}
        point = mount(publisher.fqrn, settings)
        assert attribute(point, "host_list") == f"{near.url}{base}", "the nearest one"


def test_redirects_are_followed_where_that_is_wanted(served: Served, mount: Mount, tmp_path: Path) -> None:
    publisher, running = served
    with front(running.url) as host:
        host.away = running.url
        more = {"CVMFS_FOLLOW_REDIRECTS": "yes", "CVMFS_MAX_RETRIES": "0"}
        point = mount(publisher.fqrn, publisher.demand_settings(host.url, tmp_path / "cache", **more))
        read(point, *range(COUNT))
        asked = [path for path in host.asked if "/data/" in path]
        assert len(asked) >= COUNT
        assert len(running.requests()) >= len(asked)


def test_hosts_are_told_what_is_configured(
    served: Served, mount: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, running = served
    monkeypatch.setenv("CERNVM_UUID", "a-machine-of-ours")
    with front(running.url) as host:
        more = {"CVMFS_HTTP_TRACING": "yes", "CVMFS_HTTP_TRACING_HEADERS": "site:Meyrin|bad line|x:1"}
        read(mount(publisher.fqrn, publisher.demand_settings(host.url, tmp_path / "cache", **more)), 0)
        assert host.headers
        for headers in host.headers:
            assert headers["user-agent"].startswith("cvmfs Fuse 2.12.0")
            assert headers["user-agent"].endswith(" a-machine-of-ours")
            assert (headers["x-cvmfs-site"], headers["x-cvmfs-x"]) == ("Meyrin", "1")
        before = len(host.headers)
        own = {"CVMFS_CACHE_BASE": str(tmp_path / "other")}
        read(mount(publisher.fqrn, publisher.demand_settings(host.url, tmp_path / "cache") | own), 0)
        assert not any(name.startswith("x-cvmfs") for headers in host.headers[before:] for name in headers)
