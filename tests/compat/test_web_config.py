"""What `nearfs web-config` prints, in the real servers: mirrors, caches before a storage, the cache of a site."""

import contextlib
import hashlib
import http.client
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import processes, serving
from tests.support.publishing import Publisher
from tests.support.serving import Server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(240)]
PATH = os.environ["PATH"] + ":/usr/sbin"
MODULES = "mpm_event authz_core alias headers expires mime proxy proxy_http"
START_LIMIT_S = 30.0


def printed(*words: str | Path, code: int = 0) -> str:
    """Returns what the command prints; for another exit code, what it complains."""
    command = [sys.executable, "-m", "nearfs.cli.main", "web-config", *words]
    done = processes.run(command, check=False, limit=60, cwd=Path("/"))
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@contextlib.contextmanager
def running(command: list[str | Path], port: int, scratch: Path) -> Iterator[str]:
    """Runs a server until the context ends; yields its URL once it accepts connections."""
    with processes.started(["env", f"PATH={PATH}", *command], scratch / "output") as process:

        def answers() -> bool:
            if process.poll() is not None:
                raise AssertionError((scratch / "output").read_text(errors="replace"))
            with socket.socket() as probe:
                probe.settimeout(1)
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers, START_LIMIT_S, f"{command[0]} answers")
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that servers of other users may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="nearfs-web-") as made:
        path = Path(made)
        path.chmod(0o777)
        yield path


@pytest.fixture
def published(publisher: Publisher) -> Publisher:
    """A repository with small files and a chunked one."""
    publisher.create()
    publisher.configure(
        {"CVMFS_MIN_CHUNK_SIZE": "24576", "CVMFS_AVG_CHUNK_SIZE": "49152", "CVMFS_MAX_CHUNK_SIZE": "98304"}
    )
    with publisher.transaction() as tree:
        for number in range(20):
            (tree / f"f{number}").write_text(f"content {number}\n" * 20)
        (tree / "large").write_bytes(os.urandom(400_000))
    return publisher


def get(url: str) -> tuple[int, bytes, dict[str, str]]:
    """Returns status, body and headers."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.headers)


def contents(tree: Path) -> dict[str, str]:
    """Returns the hash of every file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tree.iterdir() if path.is_file()}


def nginx(home: Path, piece: str, *, within_server: int = 0) -> list[str | Path]:
    """Writes a whole configuration around a piece; returns the command."""
    (home / "piece.conf").write_text(piece)
    inside = f'include "{home}/piece.conf";'
    if within_server:
        inside = f"server {{ listen 127.0.0.1:{within_server}; {inside} }}"
    temporary = "".join(
        f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (home / "nginx.conf").write_text(
        f"user root; worker_processes 1; daemon off; pid {home}/pid; error_log {home}/errors;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary} {inside} }}\n"
    )
    return ["nginx", "-c", home / "nginx.conf", "-e", home / "errors"]


@pytest.mark.parametrize("kind", ["nginx", "varnish", "squid"])
def test_a_second_client_behind_a_cache_asks_the_storage_for_nothing(
    published: Publisher,
    server: Callable[[Path], Server],
    mount: Callable[..., Path],
    home: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    origin, port = server(published.storage.parent), serving.free_port()
    if kind == "nginx":
        piece = printed("nginx-cache", "--backend", origin.url, "--cache", home / "kept", "--port", str(port))
        command = nginx(home, piece)
    elif kind == "varnish":
        (home / "cache.vcl").write_text(printed("varnish", "--backend", origin.url))
        words = ["-F", "-a", f"127.0.0.1:{port}", "-s", "malloc,64m", "-n", str(home / "work")]
        command = ["varnishd", *words, "-f", home / "cache.vcl"]
    else:
        # The origin of a test listens on a port of its own, and Squid's user cannot write where root's can.
        text = printed("squid", "--allow", "127.0.0.0/8", "--memory-mb", "64", "--port", str(port))
        text = text.replace("acl ports port 80 8000", f"acl ports port {origin.url.rpartition(':')[2]}")
        text += "pid_filename none\ncache_log /dev/null\naccess_log none\nvisible_hostname here\npinger_enable off\n"
        (home / "squid.conf").write_text(text)
        command = ["squid", "-N", "-n", f"t{port}", "-f", home / "squid.conf"]
    expected = contents(published.union)
    with running(command, port, tmp_path) as url:
        asked = []
        for number in range(2):
            settings = published.client_settings(origin.url if kind == "squid" else url, tmp_path / f"cache{number}")
            if kind == "squid":
                settings["CVMFS_HTTP_PROXY"] = url
            before = len(origin.requests())
            assert contents(mount(published.fqrn, settings)) == expected
            asked.append([request["path"] for request in origin.requests()[before:]])
        objects = [path for path in asked[0] if "/data/" in path]
        assert len(objects) == len(set(objects)) > len(expected)
        assert [path for path in asked[1] if "/data/" in path] == [], "what is cached is not fetched again"
        if kind == "varnish":
            assert get(f"{url}/elsewhere")[0] == 404


@pytest.mark.parametrize("kind", ["nginx", "apache"])
def test_a_mirror_with_the_geo_api(
    published: Publisher, mount: Callable[..., Path], home: Path, tmp_path: Path, kind: str
) -> None:
    table = tmp_path / "places"
    table.write_text("127.0.0.0/8 46 6\n192.0.2.0/24 47 7\n198.51.100.0/24 -33 151\n")
    # Apache's user may not enter pytest's directories.
    root, port = home / "srv", serving.free_port()
    shutil.copytree(published.storage.parent, root)
    options = ("--geo-table", table)
    with serving.serving(root, tmp_path / "api", options=options) as api:
        piece = printed(kind, "--root", root, "--api", api.url)
        if kind == "nginx":
            command = nginx(home, piece, within_server=port)
        else:
            modules = "".join(
                f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in MODULES.split()
            )
            (home / "apache.conf").write_text(
                f"{modules}ServerName here\nServerRoot {home}\nDefaultRuntimeDir {home}\nPidFile {home}/pid\n"
                f"Listen 127.0.0.1:{port}\nErrorLog {home}/errors\nUser www-data\nGroup www-data\n"
                f"TypesConfig /etc/mime.types\n{piece}"
            )
            command = ["apache2", "-D", "FOREGROUND", "-f", home / "apache.conf"]
        with running(command, port, tmp_path) as url:
            settings = published.client_settings(url, tmp_path / "cache")
            assert contents(mount(published.fqrn, settings)) == contents(published.union)
            question = f"{url}/cvmfs/{published.fqrn}/api/v1.0/geo/x/198.51.100.7,192.0.2.7"
            assert get(question)[1].strip() == b"2,1", "the nearer one first"
            manifest = f"{url}/cvmfs/{published.fqrn}/.cvmfspublished"
            assert "max-age=61" in get(manifest)[2]["Cache-Control"]


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for words, said in (
        (("varnish", "--backend", "https://a.example.org"), "is not http://HOST"),
        (("varnish", "--backend", 'http://a";}'), "is not http://HOST"),
        (("squid", "--allow", "nonsense"), "is not a network"),
        (("squid", "--allow", "10.0.0.0/8", "--source", "a b"), "is not a host"),
        (("nginx-cache", "--backend", "http://a", "--cache", "/x;y"), "is not an absolute path"),
        (("apache", "--root", str(tmp_path)), "no repository there"),
    ):
        assert said in printed(*words, code=1)
