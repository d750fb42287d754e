"""`mkfs` without `-p`: Apache and nginx serve the repository, with the reference's headers, until `rmfs`.

Each runs on a machine of its own: private mounts and a network of one loopback, with the server's own commands.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import mounts, processes
from tests.support.publishing import Publisher

FQRN = "lab.example.org"
LIMIT_S = 200.0
SERVERS = {
    "nginx": ("nginx", "/etc/nginx/conf.d", "nginx", "nginx -s quit"),
    "apache": ("apache2ctl", "/etc/apache2/conf-available", "apache2ctl start", "apache2ctl stop"),
}
pytestmark = [pytest.mark.mount, pytest.mark.timeout(240)]

# The machine's process tree is its own as well, so nothing of it stays when the script ends.
_MACHINE = """
set -e
mount --make-rprivate /
# Mounts of other tests are none of this machine's: their clients end when they are told to.
grep -o ' [^ ]* fuse[^ ]* ' /proc/mounts | sort -ru | while read -r point _; do umount -l "$point" || true; done
mount -t tmpfs -o mode=0755 tmpfs /mnt
for place in /etc /srv /var /run; do
    mkdir -p /mnt/over$place/upper /mnt/over$place/work
    mount -t overlay -o lowerdir=$place,upperdir=/mnt/over$place/upper,workdir=/mnt/over$place/work overlay $place
done
mount -t tmpfs tmpfs /var/spool
mount -t tmpfs tmpfs /srv
mkdir -p /cvmfs /run/lock /var/log/nginx /var/log/apache2 /mnt/bin
rm -rf /etc/cvmfs /etc/nginx/sites-enabled/* {absent}
ip link set lo up
for command in cvmfs_server:cvmfs_server cvmfs2:cvmfs2 mount.cvmfs:mount_cvmfs; do
    printf '#!/bin/sh\\nexec {python} -m nearfs.compat.%s "$@"\\n' "${{command#*:}}" >/mnt/bin/${{command%:*}}
done
chmod 755 /mnt/bin/*
PATH=/mnt/bin:$PATH
clean() {{
    cvmfs_server rmfs -f {fqrn} >/dev/null 2>&1 || true
    {stop} >/dev/null 2>&1 || true
    rmdir --ignore-fail-on-non-empty /cvmfs
}}
trap clean EXIT
"""

_ASK = """
import json, sys, urllib.request
for path in sys.argv[1:]:
    request = urllib.request.Request("http://localhost/cvmfs/" + path)
    request.add_header("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT")
    with urllib.request.urlopen(request, timeout=20) as answer:
        body = answer.read()
        print(json.dumps([path, answer.status, len(body), {k.lower(): v for k, v in answer.headers.items()}]))
"""


def machine(
    kind: str, script: str, tmp_path: Path, *, check: bool = True, runs: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs a script on a machine that has one web server, which runs from the beginning or not."""
    if lack := mounts.missing_for_mounts():
        pytest.skip(lack)
    program, _, start, stop = SERVERS[kind]
    if os.geteuid() != 0 or not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
        pytest.skip(f"root and {program} are needed: ci/setup lab installs it")
    absent = " ".join(place for other, (_, place, _, _) in SERVERS.items() if other != kind)
    (tmp_path / "ask.py").write_text(_ASK)
    prelude = _MACHINE.format(absent=absent, python=sys.executable, fqrn=FQRN, stop=stop) + (
        f"{start}\n" if runs else ""
    )
    space = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    return processes.run([*space, "sh", "-c", prelude + script], check=check, limit=LIMIT_S, env=environment)


def pieces(kind: str) -> str:
    """Returns the directories in which a web server has what is written for repositories."""
    place = SERVERS[kind][1]
    return f"{place} {place.replace('conf.d', 'cvmfs.d')}" if kind == "nginx" else place


def assert_nothing_left(listing: str) -> None:
    """Fails where a listing of those directories shows a file of ours."""
    assert "cvmfs" not in "".join(line for line in listing.splitlines() if not line.endswith(":"))


@pytest.mark.parametrize("kind", SERVERS)
def test_a_web_server_serves_a_repository_from_mkfs_to_rmfs(kind: str, tmp_path: Path) -> None:
    done = machine(
        kind,
        f"""
cvmfs_server mkfs -o root {FQRN}
cvmfs_server transaction {FQRN}
mkdir -p /cvmfs/{FQRN}/a/.cvmfs-like
echo content >/cvmfs/{FQRN}/a/file
cvmfs_server publish {FQRN}
cvmfs_server check {FQRN}
object=$(cd /srv/cvmfs/{FQRN} && find data -name '*C' -type f | head -1)
cd {tmp_path}
{sys.executable} ask.py {FQRN}/.cvmfspublished {FQRN}/.cvmfswhitelist {FQRN}/$object info/v1/repositories.json
ls {pieces(kind)}
cvmfs_server add-replica -P -o root -n passed.example.org http://localhost/cvmfs/{FQRN} >/dev/null
for n in $(seq 40); do
    curl -s -o /dev/null -w 'at once %{{http_code}}\\n' http://localhost/cvmfs/passed.example.org/.cvmfspublished
done
{sys.executable} ask.py passed.example.org/.cvmfspublished passed.example.org/$object
curl -s -o /dev/null -w 'api %{{http_code}}\\n' http://localhost/cvmfs/passed.example.org/api/v1.0/geo/x/a
cvmfs_server list
cvmfs_server rmfs -f passed.example.org
cvmfs_server rmfs -f {FQRN}
echo "== left"
ls {pieces(kind)}
""",
        tmp_path,
    )
    before, after = done.stdout.split("== left\n")
    assert f"cvmfs.{FQRN}.conf" in before
    assert "cvmfs.info.conf" in before
    assert_nothing_left(after)
    answers = [json.loads(line) for line in before.splitlines() if line.startswith('["')]
    assert [answer[1] for answer in answers] == [200] * 6
    # A pass-through replica serves what its source does, to the byte, but for the web API.
    *answers, manifest, catalog = answers
    assert [answer[2] for answer in (manifest, catalog)] == [answers[0][2], answers[2][2]]
    assert before.count("at once 200") == 40, "add-replica returned before every worker knew"
    assert "api 404" in before
    assert f"passed.example.org (stratum1 / local - whitelist unreachable) -> {FQRN}" in before
    expected = (
        ("application/x-cvmfs", 61),
        ("application/x-cvmfs", 61),
        ("application/octet-stream", 259_200),
        ("application/json", 61),
    )
    for (path, _, size, headers), (content_type, seconds) in zip(answers, expected, strict=True):
        assert size > 0
        assert headers["content-type"] == content_type, path
        assert f"max-age={seconds}" in headers["cache-control"], path
        if not path.startswith("info/"):
            assert {"last-modified", "etag"}.isdisjoint(headers), path


@pytest.mark.parametrize("kind", SERVERS)
def test_a_web_server_serves_a_replica_from_its_first_moment(kind: str, tmp_path: Path) -> None:
    done = machine(
        kind,
        f"""
cvmfs_server mkfs -o root {FQRN} >/dev/null
cd {tmp_path}
cvmfs_server add-replica -o root -n copy.example.org http://localhost/cvmfs/{FQRN} /etc/cvmfs/keys/{FQRN}.pub
ls -A /srv/cvmfs/copy.example.org
curl -s -o /dev/null -w 'empty %{{http_code}}\n' http://localhost/cvmfs/copy.example.org/.cvmfspublished
cvmfs_server snapshot copy.example.org
object=$(cd /srv/cvmfs/copy.example.org && find data -name '*C' -type f | head -1)
{sys.executable} ask.py {FQRN}/.cvmfspublished {FQRN}/$object
{sys.executable} ask.py copy.example.org/.cvmfspublished copy.example.org/$object copy.example.org/.cvmfs_last_snapshot
cvmfs_server check copy.example.org
cvmfs_server list
cvmfs_server rmfs -f copy.example.org
curl -s -o /dev/null -w 'gone %{{http_code}}\n' http://localhost/cvmfs/copy.example.org/.cvmfspublished
cvmfs_server rmfs -f {FQRN}
echo "== left"
ls {pieces(kind)}
""",
        tmp_path,
    )
    before, after = done.stdout.split("== left\n")
    lines = before.splitlines()
    assert "Update Apache configuration... done" in lines
    assert ".cvmfsempty" not in lines
    # Nothing is shown before the first snapshot, everything after it, nothing when it is removed.
    assert [line for line in lines if line.startswith(("empty ", "gone "))] == ["empty 404", "gone 404"]
    answers = [json.loads(line) for line in lines if line.startswith('["')]
    assert [answer[1] for answer in answers] == [200] * 5
    there, here = answers[:2], answers[2:4]
    assert [answer[2] for answer in here] == [answer[2] for answer in there]
    for name in ("content-type", "cache-control"):
        assert [answer[3][name] for answer in here] == [answer[3][name] for answer in there]
    assert "no problems found" in before
    assert f"copy.example.org (stratum1 / local) -> {FQRN}" in lines
    assert_nothing_left(after)


def test_a_server_that_does_not_run_is_said_and_nothing_of_it_stays(tmp_path: Path) -> None:
    done = machine("nginx", f"cvmfs_server mkfs -o root {FQRN}", tmp_path, check=False, runs=False)
    assert done.returncode == 1
    assert "neither Apache nor nginx is running" in done.stderr


def test_a_configuration_that_is_broken_already_stays_as_it_was(tmp_path: Path) -> None:
    done = machine(
        "nginx",
        f"""
echo nonsense >/etc/nginx/conf.d/other.conf
cvmfs_server mkfs -o root {FQRN} || echo "exit $?"
ls /etc/nginx/cvmfs.d
""",
        tmp_path,
    )
    assert "exit 1" in done.stdout
    assert "fail (nginx configuration): nginx -t -q" in done.stderr
    assert f"cvmfs.{FQRN}.conf" not in done.stdout


def test_nginx_gets_its_pieces_where_it_is_installed(publisher: Publisher) -> None:
    place = publisher.prefix / "etc" / "nginx"
    (place / "conf.d").mkdir(parents=True)
    publisher.server("mkfs", "-o", "root", publisher.fqrn)
    assert "server_name localhost" in (place / "conf.d" / "cvmfs.conf").read_text()
    piece = (place / "cvmfs.d" / f"cvmfs.{publisher.fqrn}.conf").read_text()
    assert f'alias "{publisher.storage}/$1";' in piece
    publisher.server("rmfs", "-f", publisher.fqrn)
    assert list((place / "conf.d").iterdir()) == list((place / "cvmfs.d").iterdir()) == []
