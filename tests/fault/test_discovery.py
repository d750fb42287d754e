"""Proxies that a site announces in PAC files: found, remembered, and refused in time where they are nonsense.

Every wait is bounded by `BOUND_S`: the limit of a discovery, and slack for a busy machine.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nearfs.client import discovery
from tests.mount.test_golden_reading import golden_settings
from tests.support import mounts, processes
from tests.support.golden import NAMES, Golden
from tests.support.misbehaving import Behaviour, box
from tests.support.proxying import proxying
from tests.support.ranged import Files, files
from tests.support.serving import Server

NAME = NAMES[0]
CVMFS2 = [sys.executable, "-m", "nearfs.compat.cvmfs2"]
NOTHING_FOUND = 23
BOUND_S = discovery.LIMIT_S + 20
SERVER = "http://a.example.org/cvmfs/x"
ENDLESS = "function FindProxyForURL(url, host) { while (true) {} }"
GOOD = b'function FindProxyForURL(url, host) { return "PROXY good:3128"; }'
BAD_SERVERS: tuple[Behaviour, ...] = ("silent", "trickle", "trickle-header", "endless-body", "loop", "garbage", "503")
BAD_SCRIPTS = {
    "an endless loop": ENDLESS,
    "no script": "<html>404</html>",
    "no function": "var x = 1;",
    "an error": "function FindProxyForURL(url, host) { return nothing.there; }",
    "too large": "//" + "x" * (1 << 20),
    "socks only": 'function FindProxyForURL(url, host) { return "SOCKS s:1080"; }',
    "an answer without end": 'function FindProxyForURL(url, host) { return "PROXY a:1;".repeat(10000); }',
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
    done = processes.run([*CVMFS2, "__wpad__", "auto", SERVER], check=False, env=environment, limit=BOUND_S)
    assert time.monotonic() - begun < BOUND_S
    assert (done.returncode, done.stdout) == (1, "")
    assert "proxies cannot be discovered" in done.stderr
    assert "Traceback" not in done.stderr
    # Other proxies of the list do.
    done = processes.run([*CVMFS2, "__wpad__", "auto;http://p:1", SERVER], env=environment, limit=BOUND_S)
    assert done.stdout == "http://p:1\n"


@pytest.mark.parametrize("kind", BAD_SCRIPTS)
def test_the_next_file_is_asked_after_a_bad_one(kind: str, site: Files, tmp_path: Path) -> None:
    site.content.update({b"/bad.dat": BAD_SCRIPTS[kind].encode(), b"/good.dat": GOOD})
    done = wpad(f"{site.url}/bad.dat;{site.url}/good.dat", tmp_path)
    assert done.stdout == "http://good:3128\n", done


@pytest.mark.parametrize("behaviour", BAD_SERVERS)
def test_the_next_server_is_asked_after_a_bad_one(behaviour: Behaviour, site: Files, tmp_path: Path) -> None:
    site.content.update({b"/wpad.dat": b" " * 10_000 + GOOD.replace(b"good:", b"bad:"), b"/good.dat": GOOD})
    with box(site.url) as bad, bad.being(behaviour):
        done = wpad(f"{bad.url}/wpad.dat;{site.url}/good.dat", tmp_path)
    assert done.stdout == "http://good:3128\n", done


REACHES = {
    "the environment": "process.env.NEARFS_TEST_SECRET",
    "a module": "require(PATH).secret",
    "a module loaded": 'JSON.stringify(call_python("dukpy.load_module", PATH))',
    "any file": 'JSON.stringify(call_python("dukpy.load_module", PATH.replace(".js", ".key")))',
    "a module of the working directory": 'require("secret").secret',
}


@pytest.mark.parametrize("reach", REACHES)
def test_a_script_sees_neither_files_nor_the_environment(reach: str, site: Files, tmp_path: Path) -> None:
    secret = "tell-nobody"
    (tmp_path / "secret.js").write_text(f"exports.secret = '{secret}';")
    (tmp_path / "secret.key").write_text(secret)
    path = json.dumps(str(tmp_path / "secret.js"))
    site.content[b"/wpad.dat"] = f"""
        var PATH = {path}, seen;
        try {{ seen = String({REACHES[reach]}); }} catch (error) {{ seen = "nothing"; }}
        function FindProxyForURL(url, host) {{ return "PROXY proxy:1"; }}
        if (seen.indexOf("{secret}") >= 0) FindProxyForURL = function() {{ return "PROXY seen:1"; }};
    """.encode()
    done = wpad(f"{site.url}/wpad.dat", tmp_path, NEARFS_TEST_SECRET=secret)
    assert done.stdout == "http://proxy:1\n", done


def test_nothing_is_imported_from_the_working_directory(site: Files, tmp_path: Path) -> None:
    site.content[b"/wpad.dat"] = GOOD
    ran = tmp_path / "ran"
    for name in ("json", "resource", "pypac", "nearfs"):
        (tmp_path / f"{name}.py").write_text(f"open({str(ran)!r}, 'w')\n")
    done = wpad(f"{site.url}/wpad.dat", tmp_path)
    assert done.stdout == "http://good:3128\n", done
    assert not ran.exists()


def test_what_a_script_says_is_shown_on_one_plain_line(site: Files, tmp_path: Path) -> None:
    site.content[b"/wpad.dat"] = rb'function FindProxyForURL(url, host) { return "x\ny\u001b[2J"; }'
    done = wpad(f"{site.url}/wpad.dat", tmp_path)
    assert done.stderr.count("\n") == 1
    assert "x y?[2J" in done.stderr


def test_external_proxies_are_discovered_and_named_as_such(golden: Golden, tmp_path: Path, site: Files) -> None:
    settings = golden_settings(golden, NAME, "http://127.0.0.1:1", tmp_path / "cache", CVMFS_EXTERNAL_HTTP_PROXY="auto")
    settings |= {"CVMFS_PAC_URLS": f"{site.url}/none.dat", "CVMFS_EXTERNAL_URL": "http://127.0.0.1:1"}
    done = refused(settings, tmp_path)
    assert done.returncode == NOTHING_FOUND, done
    assert "CVMFS_EXTERNAL_HTTP_PROXY=auto" in done.stderr
    del settings["CVMFS_EXTERNAL_URL"]
    site.asked.clear()
    done = refused(settings, tmp_path)
    assert done.returncode not in {0, NOTHING_FOUND}, "it gets as far as the host that is not there"
    assert site.asked == []


def test_without_proxies_the_mount_is_refused(golden: Golden, tmp_path: Path) -> None:
    settings = golden_settings(golden, NAME, "http://127.0.0.1:1", tmp_path / "cache", CVMFS_HTTP_PROXY="auto")
    done = refused(settings, tmp_path)
    assert done.returncode == NOTHING_FOUND, done
    assert "CVMFS_PAC_URLS" in done.stderr


def refused(settings: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Returns a mount that did not come up."""
    configuration = directory / "client.conf"
    configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    point = directory / "point"
    point.mkdir(exist_ok=True)
    environment = processes.marked_environment()
    for name in ("http_proxy", "CVMFS_PAC_URLS"):
        environment.pop(name, None)
    mount = [*CVMFS2, "-o", f"config={configuration}", NAME, str(point)]
    done = processes.run(mount, check=False, env=environment, limit=BOUND_S)
    assert not mounts.is_mounted(point)
    return done


def wpad(pac_urls: str, directory: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Returns `cvmfs2 __wpad__`, run in a directory which, as for an installed command, is not in its path."""
    environment = {**processes.marked_environment(), "CVMFS_PAC_URLS": pac_urls, **more}
    environment.pop("http_proxy", None)
    command = [sys.executable, "-P", *CVMFS2[1:], "__wpad__", "auto", SERVER]
    return processes.run(command, check=False, env=environment, limit=BOUND_S, cwd=directory)
