"""`nearfs status`: what the clients of a machine counted, for people, for scripts and for Prometheus."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.mount.test_cold_start import counters, fill, settle
from tests.support import processes
from tests.support.publishing import Publisher
from tests.support.serving import Server

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]

FILES = 60
COMMAND = [sys.executable, "-m", "nearfs.cli.main", "status"]

Mount = Callable[..., Path]
Start = Callable[[Path], Server]


def status(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    return processes.run([*COMMAND, *words], check=check)


@pytest.fixture
def point(publisher: Publisher, server: Start, mount: Mount, tmp_path: Path) -> Path:
    """A mount in which a directory was read, so that most of its files were fetched ahead."""
    publisher.create()
    with publisher.transaction() as tree:
        fill(tree / "flat", [700] * FILES)
    running = server(publisher.storage.parent)
    place = mount(publisher.fqrn, publisher.client_settings(running.url, tmp_path / "cache"))
    assert all(len(path.read_bytes()) == 700 for path in sorted((place / "flat").iterdir()))
    settle(place)
    return place


def test_what_was_fetched_ahead_is_told_to_people_scripts_and_prometheus(publisher: Publisher, point: Path) -> None:
    mounts = json.loads(status("--json", publisher.fqrn).stdout)["mounts"]
    told = next(one for one in mounts if one["mountpoint"] == str(point))
    known = counters(point)
    names = [name for name in known if name.startswith(("prefetch_", "traces_"))]
    assert {name: told["counters"][name] for name in names} == {name: known[name] for name in names}
    assert (told["repository"], told["pid"]) == (publisher.fqrn, int(os.getxattr(point, "user.pid")))
    used, late = known["prefetch_neighbours_used"], known["prefetch_neighbours_late"]
    assert used + late > FILES // 2

    rows = [line.split() for line in status(publisher.fqrn).stdout.splitlines()]
    assert ["neighbours", str(known["prefetch_neighbours_asked"]), str(used), str(late), "0"] in rows

    samples = {
        (sample.name, sample.labels.get("mechanism"), sample.labels.get("outcome")): sample.value
        for family in text_string_to_metric_families(status("--metrics", publisher.fqrn).stdout)
        for sample in family.samples
        if sample.labels["mountpoint"] == str(point)
    }
    assert samples["nearfs_client_up", None, None] == 1
    assert samples["nearfs_client_guesses", "neighbours", "used"] == used
    assert samples["nearfs_client_needed_bytes_total", None, None] == known["prefetch_needed_bytes"]
    assert samples["nearfs_client_prefetch_unused_bytes", None, None] == known["prefetch_unused_bytes"]


def test_what_is_not_mounted_or_does_not_answer_is_an_error(publisher: Publisher, point: Path) -> None:
    unknown = status("nobody.example.org", check=False)
    assert (unknown.returncode, "nobody.example.org is not mounted" in unknown.stderr) == (1, True)
    both = status("--json", "--metrics", check=False)
    assert (both.returncode, "exclude each other" in both.stderr) == (2, True)
    process = int(os.getxattr(point, "user.pid"))
    os.kill(process, signal.SIGSTOP)
    try:
        silent = status("--metrics", check=False)
    finally:
        os.kill(process, signal.SIGCONT)
    assert silent.returncode == 1
    assert f"the client of {point} has no counters" in silent.stderr
    assert f'mountpoint="{point}"' in silent.stdout
