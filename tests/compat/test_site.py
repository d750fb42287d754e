"""A real site's configuration, unchanged: files, two repositories, one cache, proxy groups of Squid, two hosts, autofs.

The machine is one script; what the proxies and hosts saw is read in their own logs afterwards.
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import golden as golden_repositories
from tests.support import squid
from tests.support.golden import NAMES, Golden
from tests.support.serving import Server
from tests.support.site import MOUNT_DIR, Site

NAME, OTHER = NAMES
pytestmark = [pytest.mark.mount, pytest.mark.timeout(240)]

_AUTOMOUNT = f"""
cvmfs_config setup nouser nostart
sed 's/$/ --timeout=3/' /etc/auto.master.d/cvmfs.autofs >/mnt/master
setsid automount --foreground --dont-check-daemon --pid-file /mnt/automount.pid /mnt/master >/mnt/automount.log 2>&1 &
automount=$!
for turn in $(seq 100); do grep -q ' {MOUNT_DIR} autofs ' /proc/mounts && break; sleep 0.1; done
drop() {{ echo 3 >/proc/sys/vm/drop_caches; }}
say() {{ echo "== $*"; }}
"""


@pytest.fixture
def hosts(golden: Golden, server: Callable[[Path], Server]) -> tuple[Server, Server]:
    """Two servers with the same repositories."""
    root = golden.repositories[NAME].root
    return server(root), server(root)


def test_everything_that_a_site_has_configured_works_together(
    golden: Golden, site: Site, hosts: tuple[Server, Server]
) -> None:
    lack = squid.missing() or (None if shutil.which("automount") else "automount is not installed (package autofs)")
    if lack:
        pytest.skip(lack)
    sizes = {name: sum(1 for _ in golden.repositories[name].listing(golden_repositories.TAGS[-1])) for name in NAMES}
    with contextlib.ExitStack() as stack:
        one, two, other = (stack.enter_context(squid.running()) for _ in range(3))
        site.write(
            "domain.d/example.org.local",
            {
                "CVMFS_SERVER_URL": ";".join(f"{host.url}/cvmfs/@fqrn@" for host in hosts),
                "CVMFS_HTTP_PROXY": f"{one.url}|{two.url};{other.url}",
            },
        )
        site.write(f"config.d/{OTHER}.local", {"CVMFS_KCACHE_TIMEOUT": "30", "CVMFS_QUOTA_LIMIT": "4000"})
        for setting in ("CVMFS_TIMEOUT='2'", "CVMFS_TIMEOUT_DIRECT='2'", "CVMFS_MAX_RETRIES='0'"):
            with (site.etc / "default.local").open("a") as out:
                out.write(f"{setting}\n")
        done = site.run(
            f"""{_AUTOMOUNT}
say configuration
cvmfs_config showconfig {OTHER} | grep -E '^CVMFS_(KCACHE_TIMEOUT|SERVER_URL|SHARED_CACHE|KEYS_DIR)='
say probe
cvmfs_config probe
say both read
cat {MOUNT_DIR}/{NAME}/hello.txt {MOUNT_DIR}/{OTHER}/hello.txt
cvmfs_config status
find /mnt/cache -maxdepth 1 -mindepth 1 -type d
say first group dies
kill -9 {one.process.pid} {two.process.pid}
cvmfs_talk -i {NAME} cleanup 0 >/dev/null || true
drop
timeout 60 find {MOUNT_DIR}/{NAME}/ -type f -exec cat {{}} + | wc -c
cvmfs_talk -i {NAME} proxy info
say first host dies
kill -9 {hosts[0].process.pid}
drop
timeout 60 find {MOUNT_DIR}/{OTHER}/ -type f -exec cat {{}} + | wc -c
timeout 60 find {MOUNT_DIR}/{OTHER}/ | wc -l
cvmfs_talk -i {OTHER} host info
cvmfs_config stat {OTHER} | tail -1
cvmfs_config probe
say idle
cd /
for turn in $(seq 200); do grep -q '^cvmfs2 {MOUNT_DIR}/' /proc/mounts || break; sleep 0.1; done
grep -c '^cvmfs2 {MOUNT_DIR}/' /proc/mounts || true
""",
            limit=200.0,
        )
        asked = {proxy.url: proxy.requests() for proxy in (one, two, other)}
    parts = dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])
    assert "CVMFS_KCACHE_TIMEOUT=30 " in parts["configuration"]
    assert f"/etc/cvmfs/config.d/{OTHER}.local" in parts["configuration"]
    assert f"{hosts[1].url}/cvmfs/{OTHER}" in parts["configuration"]
    assert parts["probe"].count("OK") == len(NAMES)
    assert parts["both read"].count("hello again") == len(NAMES)
    assert "/mnt/cache/shared\n" in parts["both read"]
    assert parts["both read"].count("/mnt/cache/") == 1, "one cache for both"
    assert "Active proxy: [1] " + other.url in parts["first group dies"]
    assert int(parts["first group dies"].split()[0]) > 0
    assert f"Active host 1: {hosts[1].url}/cvmfs/{OTHER}" in parts["first host dies"]
    assert int(parts["first host dies"].split()[1]) == sizes[OTHER] + 1
    assert parts["first host dies"].count("OK") == len(NAMES)
    assert parts["idle"].split()[0] == "0", "autofs unmounted both"
    # Nobody went past the proxies: what the hosts saw came from them.
    assert asked[one.url] or asked[two.url]
    assert any(url.startswith(hosts[1].url) for url in asked[other.url])
    seen = {line["path"] for host in hosts for line in host.requests()}
    by_proxies = {url.partition("/cvmfs/")[2] for urls in asked.values() for url in urls}
    assert {path.partition("/cvmfs/")[2] for path in seen} <= by_proxies
    assert done.stderr == "" or "Killed" in done.stderr or "unmount" in done.stderr.lower(), done.stderr
