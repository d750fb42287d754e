"""What `nearfs serve` tells of itself: metrics, the JSON document, and the page's text; the browser's view is apart."""

import http.client
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import storages
from tests.support.misbehaving import box
from tests.support.publishing import Publisher
from tests.support.serving import Server, serving
from tests.support.storages import DAY_S, HOUR_S
from tests.support.waiting import wait_until

GOOD, OLD, BROKEN, MASTER = "good.example.org", "old.example.org", "broken.example.org", "master.example.org"
HOSTILE = '<script>alert("x")</script>&\'"'
LIMIT_S = 30.0
Answer = tuple[int, bytes, dict[str, str]]


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> Answer:
    """Returns status, body and headers."""
    with closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=LIMIT_S)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}


def document(server: Server) -> dict[str, Any]:
    """Returns the JSON document."""
    status, body, headers = ask(server, "/status.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    found: dict[str, Any] = json.loads(body)
    return found


def repository(server: Server, name: str) -> dict[str, Any]:
    """Returns what the document says of a repository."""
    found: dict[str, Any] = next(one for one in document(server)["repositories"] if one["name"] == name)
    return found


def samples(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Returns the metrics by name and labels, as Prometheus' own library reads them."""
    status, body, headers = ask(server, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(body.decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def labelled(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"nearfs_{name}", frozenset(labels.items())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Returns a root with a repository of each kind of state."""
    root, now = tmp_path / "srv", time.time()
    checked = {"last_check": storages.dated(now - DAY_S).strip(), "check_status": "succeeded", "last_gc": "nonsense"}
    storages.write(root, GOOD, revision=7, snapshot_s=600, status=checked)
    storages.write(root, OLD, revision=3, snapshot_s=30 * HOUR_S, snapshotting_s=25 * HOUR_S, whitelist_s=2.5 * DAY_S)
    damaged = storages.write(root, BROKEN, revision=1, snapshot_s=60, whitelist_s=-3 * DAY_S)
    (damaged / ".cvmfspublished").write_bytes(b"Cabc\n--\nnonsense\n")
    (damaged / ".cvmfs_status.json").write_text(json.dumps({"check_status": "failed"}))
    storages.write(root, MASTER, revision=99, master=True)
    (root / "lost+found").mkdir()
    (root / "info" / "v1").mkdir(parents=True)
    (root / "info" / "v1" / "meta.json").write_text(json.dumps({"organisation": HOSTILE, "custom": {"a": 1}}))
    return root


@pytest.fixture
def server(root: Path, tmp_path: Path) -> Iterator[Server]:
    """Returns a server over `root`, which knows no stratum 0."""
    with serving(root, tmp_path / "scratch") as running:
        yield running


def test_the_document_tells_each_state_in_words(server: Server) -> None:
    found = document(server)
    assert [one["name"] for one in found["repositories"]] == [BROKEN, OLD, GOOD, MASTER], "those in trouble first"
    assert [one["type"] for one in found["repositories"]] == ["replica", "replica", "replica", "master"]
    good, old, broken = (repository(server, name) for name in (GOOD, OLD, BROKEN))
    assert (good["revision"], good["problems"], good["check_failed"]) == (7, [], False)
    assert abs(time.time() - 600 - _unix(good["last_snapshot"])) < LIMIT_S
    assert good["last_gc"] is None, "a date that is none is not shown as one"
    words = [problem["text"] for problem in old["problems"]]
    assert [problem["severity"] for problem in old["problems"]] == ["warning"] * 3
    assert words[0].startswith("The whitelist expires in 2 days")
    assert words[1].startswith("A snapshot began 25 hours ago and has not ended")
    assert words[2].startswith("The last snapshot was 30 hours ago")
    texts = " ".join(problem["text"] for problem in broken["problems"])
    assert {problem["severity"] for problem in broken["problems"]} == {"error"}
    for part in ("Manifest is corrupt", "whitelist expired 3 days ago", "last check (some time ago) found damage"):
        assert part in texts


def test_metrics_count_requests_bytes_and_states(server: Server, root: Path) -> None:
    stored = root / GOOD / "data" / "ab" / ("c" * 38)
    stored.parent.mkdir()
    stored.write_bytes(b"x" * 1000)
    path = f"/cvmfs/{GOOD}/data/ab/{'c' * 38}"
    for _ in range(3):
        assert ask(server, path)[0] == 200
    assert ask(server, path, "HEAD")[0] == 200
    assert ask(server, path, Range="bytes=0-9")[0] == 206
    assert ask(server, f"{path}C")[0] == 404
    assert ask(server, f"/cvmfs/{GOOD}/.cvmfspublished")[0] == 200
    for number in range(50):
        assert ask(server, f"/cvmfs/random{number}.example.org/.cvmfspublished")[0] == 404
        assert ask(server, f"/{number}")[0] == 404
    found = samples(server)
    assert found[labelled("http_requests_total", kind="file", code="200")] == 4
    assert found[labelled("http_requests_total", kind="file", code="206")] == 1
    assert found[labelled("http_requests_total", kind="catalog", code="404")] == 1
    assert found[labelled("http_requests_total", kind="manifest", code="200")] == 1
    assert found[labelled("http_requests_total", kind="manifest", code="404")] == 50
    assert found[labelled("http_requests_total", kind="other", code="404")] == 50
    assert found[labelled("http_response_bytes_total", kind="file")] == 3010
    assert found[labelled("repository_requests_total", repository=GOOD)] == 6
    assert found[labelled("repository_revision", repository=GOOD)] == 7
    assert abs(found[labelled("repository_last_snapshot_age_seconds", repository=GOOD)] - 600) < LIMIT_S
    expiry = found[labelled("repository_whitelist_expiry_timestamp_seconds", repository=GOOD)]
    assert abs(expiry - time.time() - 20 * DAY_S) < HOUR_S
    assert found[labelled("repository_problems", repository=OLD, severity="warning")] == 3
    assert found[labelled("repository_problems", repository=GOOD, severity="error")] == 0
    assert found[labelled("repository_check_failed", repository=GOOD)] == 0
    assert labelled("repository_revision", repository=BROKEN) not in found, "what nobody knows is left out"
    # Whatever is asked for: names of repositories are those on disk, kinds and codes the server's own.
    repositories = {dict(labels)["repository"] for _, labels in found if "repository" in dict(labels)}
    assert repositories == {GOOD, OLD, BROKEN, MASTER}


def test_metrics_come_in_the_form_that_is_asked_for(server: Server) -> None:
    _, body, headers = ask(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_the_page_is_complete_escaped_and_locked_up(server: Server, root: Path) -> None:
    storages.write(root, "plain.example.org", revision=1, master=True)
    status, body, headers = ask(server, "/")
    text = body.decode()
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert ask(server, "/status")[0] == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "<script" not in text
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#x27;" in text
    # Nothing is loaded from anywhere.
    assert not re.search(r"""(?:src|href|action)=["'](?!/status\.json|/metrics|data:,)""", text)
    assert str(root) not in text, "no path of the machine"
    status, body, headers = ask(server, "/", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 1000


def test_a_manifest_cannot_put_markup_on_the_page(server: Server, root: Path) -> None:
    hostile = storages.manifest(GOOD, 7, 0).replace(f"N{GOOD}".encode(), f"N{HOSTILE}".encode())
    (root / GOOD / ".cvmfspublished").write_bytes(hostile)
    (root / GOOD / ".cvmfs_status.json").write_text(json.dumps({"last_check": HOSTILE, "check_status": HOSTILE}))
    assert b"<script" not in ask(server, "/status")[1]


def test_pages_can_be_left_out(root: Path, tmp_path: Path) -> None:
    with serving(root, tmp_path / "scratch", options=["--no-status"]) as running:
        for path in ("/", "/status", "/status.json", "/metrics"):
            assert ask(running, path)[0] == 404


def test_files_that_are_no_files_are_told_and_harm_nothing(server: Server, root: Path) -> None:
    (root / GOOD / ".cvmfs_status.json").write_text("[" * 100_000)
    (root / GOOD / ".cvmfs_last_snapshot").write_bytes(b"\xff\xfe whenever")
    (root / GOOD / ".cvmfswhitelist").write_bytes(bytes(2 << 20))
    (root / OLD / ".cvmfs_status.json").write_bytes(bytes(70_000))
    found = repository(server, GOOD)
    words = " ".join(problem["text"] for problem in found["problems"])
    assert ".cvmfs_status.json" in words.lower()
    assert ".cvmfswhitelist is larger" in words
    assert "at a time that its mark does not tell" in words
    assert found["last_snapshot"] is None
    assert any("larger" in problem["text"] for problem in repository(server, OLD)["problems"])


def test_a_replica_tells_how_far_it_is_behind_its_stratum_0(root: Path, tmp_path: Path) -> None:
    above = tmp_path / "above"
    for name, revision, published_s in ((GOOD, 7, HOUR_S), (OLD, 8, 26 * HOUR_S), (BROKEN, 5, HOUR_S)):
        storages.write(above, name, revision=revision, published_s=published_s, master=True)
    storages.write(root, BROKEN, revision=6, snapshot_s=60)
    with serving(above, tmp_path / "scratch-above") as stratum0:
        masters = [f"--stratum0={name}={stratum0.url}/cvmfs/{name}" for name in (GOOD, OLD, BROKEN)]
        with serving(root, tmp_path / "scratch", options=masters) as running:

            def behind() -> dict[str, int | None]:
                return {one["name"]: one["revisions_behind"] for one in document(running)["repositories"]}

            expected = {GOOD: 0, OLD: 5, BROKEN: -1, MASTER: None}
            wait_until(lambda: behind() == expected, LIMIT_S, "stratum 0 is asked")
            words = {name: [problem["text"] for problem in repository(running, name)["problems"]] for name in expected}
            assert any("published revision 8 (26 hours ago)" in text for text in words[OLD])
            assert any("newer than stratum 0's, 5" in text for text in words[BROKEN])
            assert words[GOOD] == []
            assert samples(running)[labelled("repository_revisions_behind", repository=OLD)] == 5
            page = ask(running, "/status")[1].decode()
            assert "5 revisions" in page
            assert stratum0.url not in page
            asked = [line["path"] for line in stratum0.requests()]
            assert sorted(asked) == sorted(f"/cvmfs/{name}/.cvmfspublished" for name in (GOOD, OLD, BROKEN))


@pytest.mark.fault
@pytest.mark.parametrize("behaviour", ["refuse", "silent", "garbage", "503", "trickle", "endless-body"])
def test_nobody_waits_for_a_stratum_0_that_misbehaves(
    behaviour: Any, server: Server, root: Path, tmp_path: Path
) -> None:
    with box(server.url) as above:
        above.behaviour = behaviour
        option = f"--stratum0={GOOD}={above.url}/cvmfs/{GOOD}"
        with serving(root, tmp_path / "other", options=[option]) as running:
            begun = time.monotonic()
            assert ask(running, "/status")[0] == 200
            assert time.monotonic() - begun < LIMIT_S

            def is_told() -> bool:
                problems = repository(running, GOOD)["problems"]
                return any("stratum 0 was asked" in problem["text"] for problem in problems)

            wait_until(is_told, 2 * LIMIT_S, "the trouble is told")


@pytest.mark.parametrize("pair", ["x", "x.example.org=", "x.example.org=file:///etc", "../x=http://h/", "x=http://:1"])
def test_a_stratum_0_that_is_no_url_is_refused(pair: str) -> None:
    from nearfs.errors import InvalidInput
    from nearfs.serve.status import replicas

    with pytest.raises(InvalidInput, match="FQRN=http"):
        replicas.given([pair])


def test_replicas_of_this_machine_are_found_without_a_shell(tmp_path: Path) -> None:
    from nearfs.serve.status import replicas

    for name, text in {
        "a.example.org": "CVMFS_REPOSITORY_TYPE=stratum1\nCVMFS_STRATUM0=http://zero.example.org/cvmfs/a.example.org\n",
        "alias": f"CVMFS_REPOSITORY_TYPE=stratum1\nCVMFS_STRATUM0=http://z/cvmfs/b\ntouch {tmp_path}/touched\n",
        "master.example.org": "CVMFS_REPOSITORY_TYPE=stratum0\nCVMFS_STRATUM0=http://localhost/cvmfs/m\n",
        "s3.example.org": "CVMFS_REPOSITORY_TYPE=stratum1\nCVMFS_STRATUM0=file:///etc\n",
    }.items():
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "server.conf").write_text(text)
    assert replicas.configured(tmp_path / "d") == {
        "a.example.org": "http://zero.example.org/cvmfs/a.example.org",
        "alias": "http://z/cvmfs/b",
    }
    assert replicas.configured(tmp_path / "absent") == {}
    assert not (tmp_path / "touched").exists()


@pytest.mark.mount
def test_a_repository_that_was_really_published_is_healthy(
    publisher: Publisher, server: Callable[[Path], Server], tmp_path: Path
) -> None:
    publisher.create("-z")
    with publisher.transaction() as tree:
        (tree / "file").write_text("content")
    publisher.server("check", publisher.fqrn)
    publisher.server("gc", "-f", publisher.fqrn)
    with serving(publisher.storage.parent, tmp_path / "serving") as running:
        found = repository(running, publisher.fqrn)
        assert (found["type"], found["problems"], found["check_failed"]) == ("master", [], False)
        assert found["revision"] >= 2
        assert len(found["root_hash"]) == 40
        for moment in ("published", "last_check", "last_gc"):
            assert abs(time.time() - _unix(found[moment])) < HOUR_S, moment
        assert 29 * DAY_S < _unix(found["whitelist_expires"]) - time.time() <= 30 * DAY_S


def _unix(text: str) -> float:
    import datetime as dt

    return dt.datetime.fromisoformat(text).timestamp()
