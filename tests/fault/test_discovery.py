"""Proxies that a site announces in PAC files: found, remembered, and refused in time where they are nonsense.

Every wait is bounded by `BOUND_S`: the limit of a discovery, and slack for a busy machine.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nearfs.client import discovery
from tests.mount.test_golden_reading import golden_settings
from tests.support import mounts, processes
from tests.support.golden import NAMES, Golden
from tests.support.proxying import proxying
from tests.support.ranged import Files, files
from tests.support.serving import Server

NAME = NAMES[0]
CVMFS2 = [sys.executable, "-m", "nearfs.compat.cvmfs2"]
NOTHING_FOUND = 23
BOUND_S = discovery.LIMIT_S + 20
ENDLESS = "function FindProxyForURL(url, host) { while (true) {} }"
BAD_SCRIPTS = {
    "an endless loop": ENDLESS,
    "no script": "<html>404</html>",
    "no function": "var x = 1;",
    "an error": "function FindProxyForURL(url, host) { return nothing.there; }",
    "too large": "//" + "x" * (1 << 20),
    "socks only": 'function FindProxyForURL(url, host) { return "SOCKS s:1080"; }',
    "greedy": 'function FindProxyForURL(url, host) { var s = "x"; while (true) { s += s; } }',
}
pytestmark = pytest.mark.mount


@pytest.fixture
def site() -> Iterator[Files]:
    """The web server of the PAC file."""
    with files({}) as shown:
        yield shown


def script(proxy: str) -> bytes:
    return f"""
        function FindProxyForURL(url, host) {{
            if (!shExpMatch(url, "*/cvmfs/*/.cvmfspublished")) return "DIRECT";
            if (dnsDomainIs(host, ".example.org")) return "PROXY wrong:1";
            if (isInNet(host, "127.0.0.0", "255.0.0.0")) return "SOCKS s:1; PROXY {proxy}; DIRECT";
            return "DIRECT";
        }}
    """.encode()


def test_a_mount_goes_by_the_proxy_that_is_announced_and_remembers_it(
    golden: Golden, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path, site: Files
) -> None:
    url = server(golden.repositories[NAME].root).url
    settings = golden_settings(golden, NAME, url, tmp_path / "cache", CVMFS_HTTP_PROXY="auto")
    settings["CVMFS_PAC_URLS"] = f"{site.url}/none.dat;{site.url}/wpad.dat"
    with proxying() as proxy:
        site.content[b"/wpad.dat"] = script(proxy.url.removeprefix("http://"))

        def asked_for(path: str, point: Path) -> bool:
            (point / path).read_bytes()
            return os.getxattr(point, "user.proxy_list").decode() == f"{proxy.url}\nDIRECT"

        point = mount(NAME, settings)
        assert asked_for("hello.txt", point)
        assert any("/data/" in path for path in proxy.asked), "objects came by the proxy"
        mounts.unmount(point)

        note = tmp_path / "cache" / NAME / f"proxies.{NAME}-{NAME}"
        assert note.read_text() == f"{proxy.url};DIRECT"
        assert note.stat().st_mode & 0o777 == 0o660
        del site.content[b"/wpad.dat"]
        assert asked_for("hello.txt", mount(NAME, settings)), "what was found last holds"


@pytest.mark.parametrize("kind", BAD_SCRIPTS)
def test_nonsense_is_refused_in_time(kind: str, site: Files, tmp_path: Path) -> None:
    site.content[b"/wpad.dat"] = BAD_SCRIPTS[kind].encode()
    environment = {**processes.marked_environment(), "CVMFS_PAC_URLS": f"{site.url}/wpad.dat"}
    environment.pop("http_proxy", None)
    begun = time.monotonic()
    done = processes.run(
        [*CVMFS2, "__wpad__", "auto", "http://a.example.org/cvmfs/x"], check=False, env=environment, limit=BOUND_S
    )
    assert time.monotonic() - begun < BOUND_S
    assert (done.returncode, done.stdout) == (1, "")
    assert "proxies cannot be discovered" in done.stderr
    assert "Traceback" not in done.stderr
    # Other proxies of the list do.
    done = processes.run(
        [*CVMFS2, "__wpad__", "auto;http://p:1", "http://a.example.org/cvmfs/x"], env=environment, limit=BOUND_S
    )
    assert done.stdout == "http://p:1\n"


def test_without_proxies_the_mount_is_refused(golden: Golden, tmp_path: Path) -> None:
    settings = golden_settings(golden, NAME, "http://127.0.0.1:1", tmp_path / "cache", CVMFS_HTTP_PROXY="auto")
    configuration = tmp_path / "client.conf"
    configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    point = tmp_path / "point"
    point.mkdir()
    environment = processes.marked_environment()
    for name in ("http_proxy", "CVMFS_PAC_URLS"):
        environment.pop(name, None)
    mount = [*CVMFS2, "-o", f"config={configuration}", NAME, str(point)]
    done = processes.run(mount, check=False, env=environment)
    assert done.returncode == NOTHING_FOUND, done
    assert "CVMFS_PAC_URLS" in done.stderr
    assert not mounts.is_mounted(point)
