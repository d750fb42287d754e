"""`nearfs serve --geo-table` and `--geo-database`: servers by distance, as clients ask for them."""

import http.client
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped, unused-ignore]

from tests.mount.test_golden_reading import golden_settings
from tests.support import processes
from tests.support.golden import NAMES, Golden
from tests.support.serving import Server, serving

GENEVA, CHICAGO, TOKYO, SYDNEY = (46.2, 6.1), (41.8, -88.3), (35.6, 139.7), (-33.8, 151.2)
WORLD = {
    "127.0.0.1/32": GENEVA,
    "10.1.0.0/16": GENEVA,
    "10.2.0.0/16": CHICAGO,
    "10.3.0.0/16": TOKYO,
    "10.3.7.0/24": SYDNEY,
    "2001:db8::/32": CHICAGO,
}
TABLE = "# written for a test\n" + "".join(
    f"{network}  {north}, {east}  a comment\n" for network, (north, east) in WORLD.items()
)
SERVE = [sys.executable, "-m", "nearfs.cli.main", "serve", "--port", "0"]
Answer = tuple[int, str, dict[str, str]]


def ask(server: Server, question: str, repository: str = "x.example.org", **headers: str) -> Answer:
    """Returns status, body and headers of one call of the API; header names are given with `_` for `-`."""
    netloc = urlsplit(server.url).netloc
    with closing(http.client.HTTPConnection(netloc, timeout=20)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", f"/cvmfs/{repository}/api/{question}", headers=named)
        answer = connection.getresponse()
        body = answer.read().decode()
        return answer.status, body, {name.lower(): value for name, value in answer.getheaders()}


def write_database(path: Path) -> None:
    writer = MMDBWriter(6, "GeoLite2-City", ipv4_compatible=True)
    for network, (north, east) in WORLD.items():
        if network != "10.3.7.0/24":
            writer.insert_network(IPSet([network]), {"location": {"latitude": north, "longitude": east}})
    writer.insert_network(IPSet(["10.9.0.0/16"]), {"country": {"iso_code": "CH"}})
    writer.to_db_file(str(path))


@pytest.fixture(scope="module", params=["table", "database"])
def geo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Returns a server that knows the world, by each of the two kinds of files."""
    folder = tmp_path_factory.mktemp("geo")
    file = folder / "places"
    if request.param == "table":
        file.write_text(TABLE)
    else:
        write_database(file)
    (folder / "srv").mkdir()
    with serving(folder / "srv", folder / "scratch", options=[f"--geo-{request.param}", file]) as running:
        yield running


@pytest.mark.parametrize(
    ("seen_from", "servers", "order"),
    [
        ("10.1.2.3", "10.3.0.1,10.2.0.1,10.1.0.1", "3,2,1"),
        ("10.2.2.3", "10.3.0.1,10.2.0.1,10.1.0.1", "2,3,1"),
        ("10.3.2.3", "10.1.0.1,10.2.0.1", "1,2"),
        ("10.2.2.3", "[2001:db8::1],10.1.0.1", "1,2"),
        # Nobody knows 10.8.0.1; 10.9.0.1 has a country and no place; equals stay in their order.
        ("10.1.2.3", "10.8.0.1,10.9.0.1,10.2.0.1,10.1.0.1,10.1.0.2", "4,5,3,1,2"),
        ("10.1.2.3", "no.such.host.invalid,10.2.0.1,,a b,10.1.0.1", "5,2,1,3,4"),
        # Hosts are as far as they are from the nearest proxy.
        ("10.1.2.3", "10.1.0.1,10.3.0.1,+PXYSEP+,10.3.0.2,10.3.0.3", "2,1,4,5,3"),
        ("10.1.2.3", "10.3.0.1,10.1.0.1,+PXYSEP+,10.8.0.1", "2,1,4,3"),
        ("10.1.2.3", "10.3.0.1,10.1.0.1,+PXYSEP+", "2,1,3"),
        # The caching string of a client without proxy is no name: the peer's address counts.
        ("3b1f0c7e-0000-4000-8000-0123456789ab", "10.3.0.1,10.2.0.1,10.1.0.1", "3,2,1"),
        ("localhost", "10.3.0.1,10.2.0.1,localhost", "3,2,1"),
    ],
)
def test_servers_come_back_by_their_distance(geo: Server, seen_from: str, servers: str, order: str) -> None:
    status, body, headers = ask(geo, f"v1.0/geo/{seen_from}/{servers}".replace(" ", "%20"))
    assert (status, body) == (200, f"{order}\n")
    assert headers["content-type"] == "text/plain"
    assert headers["cache-control"] == "max-age=3600"


def test_who_asks_is_told_by_cloudflare_then_by_the_last_proxy_then_by_the_connection(geo: Server) -> None:
    question = "v1.0/geo/a-cache/10.1.0.1,10.2.0.1,10.3.0.1"
    chain = {"X_Forwarded_For": "10.3.0.9, 10.2.0.9"}
    assert ask(geo, question)[1] == "1,2,3\n"
    assert ask(geo, question, **chain)[1] == "2,1,3\n"
    assert ask(geo, question, **chain, CF_Connecting_IP="10.3.0.9")[1] == "3,1,2\n"
    assert ask(geo, question, X_Forwarded_For="10.8.0.1")[1] == "1,2,3\n", "an unknown address tells nothing"
    assert ask(geo, question, X_Forwarded_For="<script>")[1] == "1,2,3\n"
    assert ask(geo, question, X_Forwarded_For="::ffff:10.3.0.9")[1] == "3,1,2\n"


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("v1.0/geo/10.1.0.1", "no slash in geo path"),
        ("v1.0/geo/10.1.0.1/10.8.0.1,10.8.0.2", "no server addr found in database"),
        ("v1.0/geo/10.1.0.1/", "no server addr found in database"),
        ("v1.0/other/a/b", "unrecognized api function"),
        ("v2.0/geo/a/b", "unrecognized api function"),
        ("", "unrecognized api function"),
        ("v1.0/geo/10.1.0.1/" + ",".join(["10.1.0.1"] * 101), "more than 100 servers"),
    ],
)
def test_what_has_no_answer_is_a_bad_request(geo: Server, question: str, reason: str) -> None:
    status, body, headers = ask(geo, question)
    assert (status, body) == (400, f"Bad Request: {reason}\n")
    assert headers["cache-control"] == "max-age=300"


def test_an_asker_that_nobody_can_locate_is_told(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("10.1.0.0/16 46.2 6.1\n")
    with serving(tmp_path, tmp_path / "scratch", options=["--geo-table", tmp_path / "table"]) as running:
        status, body, _ = ask(running, "v1.0/geo/10.8.0.1/10.1.0.1")
        assert (status, body) == (400, "Bad Request: remote addr not found in database\n")


def test_a_name_is_looked_up_once(geo: Server) -> None:
    def lookups() -> int:
        return int(ask(geo, "v1.0/geo/_namelookups_/x")[1])

    before = lookups()
    for _ in range(3):
        assert ask(geo, "v1.0/geo/10.1.0.1/LocalHost.,10.1.0.1")[0] == 200
    assert lookups() == before + 1


def test_the_longest_network_of_a_table_counts(tmp_path: Path) -> None:
    table = tmp_path / "table"
    table.write_text(TABLE)
    question = "v1.0/geo/10.3.7.1/10.3.0.1,10.3.7.2"
    with serving(tmp_path, tmp_path / "scratch", options=["--geo-table", table]) as running:
        assert ask(running, question)[1] == "2,1\n"


def test_without_places_there_is_no_api(tmp_path: Path) -> None:
    with serving(tmp_path, tmp_path / "scratch") as running:
        assert ask(running, "v1.0/geo/10.1.0.1/10.1.0.1")[0] == 404


@pytest.mark.parametrize(
    ("option", "content", "words"),
    [
        ("--geo-table", "10.0.0.0/8 91 0", "line 1: 91 0 is no place"),
        ("--geo-table", "10.0.0.0/8 nan 0", "no place"),
        ("--geo-table", "\n10.0.0.1/8 1 0", "line 2: 10.0.0.1/8 has host bits set"),
        ("--geo-table", "10.0.0.0/8 1", "a network, a latitude and a longitude"),
        ("--geo-table", None, "No such file"),
        ("--geo-database", "nonsense", "no MaxMind database"),
        ("--geo-database", None, "No such file"),
    ],
)
def test_a_file_of_places_that_is_wrong_is_told_at_the_start(
    tmp_path: Path, option: str, content: str | None, words: str
) -> None:
    file = tmp_path / "places"
    if content is not None:
        file.write_text(content)
    done = processes.run([*SERVE, "--root", tmp_path, option, file], check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.mount
def test_a_client_settles_on_the_nearest_host(golden: Golden, mount: Callable[..., Path], tmp_path: Path) -> None:
    name = NAMES[0]
    table = tmp_path / "table"
    table.write_text(
        "127.0.0.1/32 46.2 6.1\n127.0.0.2/32 -33.8 151.2\n127.0.0.3/32 45.5 9.2\n127.0.0.4/32 41.8 -88.3\n"
    )
    root = golden.repositories[name].root
    with serving(root, tmp_path / "scratch", host="0.0.0.0", options=["--geo-table", table]) as running:  # noqa: S104
        port = urlsplit(running.url).port
        hosts = [f"http://127.0.0.{number}:{port}/cvmfs/{name}" for number in (2, 3, 4)]
        settings = golden_settings(golden, name, "unused", tmp_path / "cache")
        del settings["CVMFS_MAGIC_XATTRS_VISIBILITY"]
        settings |= {"CVMFS_SERVER_URL": ";".join(hosts), "CVMFS_USE_GEOAPI": "yes"}
        point = mount(name, settings)
        assert os.getxattr(point, "user.host_list").decode() == ";".join([hosts[1], hosts[2], hosts[0]])
        assert os.getxattr(point, "user.host").decode() == hosts[1]
        assert (point / "hello.txt").is_file()
        asked = [line["path"] for line in running.requests() if "/api/" in line["path"]]
        assert asked
        assert all(path.endswith("/127.0.0.2,127.0.0.3,127.0.0.4") for path in asked)
