"""Proxies that work, die and come back, under real mounts: who is asked, and that no byte is wrong."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.proxying import Proxy, proxying
from tests.support.publishing import Publisher
from tests.support.serving import Server, free_port

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxying() as running:
        yield running


@pytest.fixture
def served(publisher: Publisher, server: Callable[[Path], Server]) -> tuple[Publisher, Server]:
    publisher.create()
    with publisher.transaction() as tree:
        for number in range(20):
            (tree / f"file-{number}").write_text(f"{number}\n" * 100)
    return publisher, server(publisher.storage.parent)


def settings(publisher: Publisher, url: str, cache: Path, proxies: str) -> dict[str, str]:
    return {**publisher.demand_settings(url, cache), "CVMFS_HTTP_PROXY": proxies, "CVMFS_MAX_RETRIES": "0"}


def read_all(point: Path, numbers: range) -> None:
    for number in numbers:
        assert (point / f"file-{number}").read_text() == f"{number}\n" * 100


def test_everything_goes_by_the_proxy(
    served: tuple[Publisher, Server], proxy: Proxy, mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher, running = served
    point = mount(publisher.fqrn, settings(publisher, running.url, tmp_path / "cache", proxy.url))
    read_all(point, range(20))
    assert len(proxy.asked) == len(running.requests())
    assert all(url.startswith(f"{running.url}/cvmfs/") for url in proxy.asked)
    assert os.getxattr(point, "user.proxy").decode() == proxy.url
    assert os.getxattr(point, "user.host").decode() == f"{running.url}/cvmfs/{publisher.fqrn}"


def test_a_proxy_that_breaks_is_left_and_nobody_notices(
    served: tuple[Publisher, Server], proxy: Proxy, mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher, running = served
    with proxying() as second:
        proxies = f"{proxy.url};{second.url};DIRECT"
        point = mount(publisher.fqrn, settings(publisher, running.url, tmp_path / "cache", proxies))
        read_all(point, range(5))
        assert not second.asked
        proxy.is_broken = True
        before = len(proxy.asked)
        read_all(point, range(5, 15))
        assert len(proxy.asked) == before + 1, "a proxy that failed is asked once"
        assert len(second.asked) == 10
        second.is_broken = True
        read_all(point, range(15, 20))
        assert os.getxattr(point, "user.proxy") == b"DIRECT"
        assert os.getxattr(point, "user.proxy_list").decode().splitlines() == [proxy.url, second.url, "DIRECT"]


def test_without_a_way_out_an_open_fails_and_works_again_later(
    served: tuple[Publisher, Server], proxy: Proxy, mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher, running = served
    point = mount(publisher.fqrn, settings(publisher, running.url, tmp_path / "cache", proxy.url))
    proxy.is_broken = True
    with pytest.raises(OSError) as caught:
        (point / "file-1").read_text()
    assert caught.value.errno == errno.EIO
    proxy.is_broken = False
    read_all(point, range(20))


def test_a_dead_proxy_costs_the_mount_no_more_than_its_refusal(
    served: tuple[Publisher, Server], proxy: Proxy, mount: Callable[..., Path], tmp_path: Path
) -> None:
    publisher, running = served
    proxies = f"http://127.0.0.1:{free_port()}|http://127.0.0.1:{free_port()};{proxy.url}"
    point = mount(publisher.fqrn, settings(publisher, running.url, tmp_path / "cache", proxies))
    read_all(point, range(20))
    assert os.getxattr(point, "user.proxy").decode() == proxy.url


@pytest.mark.parametrize(
    ("proxies", "code", "said"),
    [
        ("socks5://p:1", 2, "proxies are asked over http only"),
        ("http://p:port", 2, "no port number"),
        ("auto", 23, "cannot be discovered"),
    ],
)
def test_what_is_no_proxy_is_said_before_anything_is_asked(
    tmp_path: Path, publisher: Publisher, proxies: str, code: int, said: str
) -> None:
    publisher.create()
    configuration, point = tmp_path / "client.conf", tmp_path / "point"
    point.mkdir()
    values = settings(publisher, "http://127.0.0.1:1", tmp_path / "cache", proxies)
    configuration.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    environment = {key: value for key, value in os.environ.items() if key != "http_proxy"}
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "nearfs.compat.cvmfs2",
        "-o",
        f"config={configuration}",
        publisher.fqrn,
        point,
    ]
    done = processes.run(command, check=False, env=environment)
    assert (done.returncode, said in done.stderr + done.stdout) == (code, True), done
