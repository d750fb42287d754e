"""What three small scenarios may cost: requests, bytes and upcalls, never seconds.

The budget is bench/budget.json. More than it fails; so does much less, so that a gain is written down and kept:
`NEARFS_NEW_BUDGET=1 python -m pytest tests/mount/test_budget.py` writes what was measured, to be committed with the
reason.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import lmod
from bench.trees.modulefiles import build_modulefiles
from tests.support.publishing import Publisher
from tests.support.serving import Server

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]

BUDGET = Path(__file__).resolve().parent.parent.parent / "bench" / "budget.json"
MODULES = 60
# Catalogs have times in them, which deflate a little differently; the kernel asks for a little more or less.
SLACK = {"requests": 0.0, "bytes": 0.02, "upcalls": 0.05}
WORTH_KEEPING = 0.10
# How often it is measured when the kernel, short of memory or told to by somebody else, forgets in the middle.
ATTEMPTS = 5


def counters(point: Path) -> dict[str, int]:
    """Returns the client's counters."""
    lines = os.getxattr(point, "user.nearfs_counters").decode("ascii").splitlines()
    return {name: int(value) for name, value in (line.split(",") for line in lines)}


def cost(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """Returns requests, bytes, upcalls that somebody waited for, and forgotten entries between two readings."""
    spent = {name: now[name] - before.get(name, 0) for name in now}
    upcalls = [value for name, value in spent.items() if name.startswith("upcall_") and name != "upcall_forget"]
    return {
        "requests": spent["requests"],
        "bytes": spent["request_bytes"],
        "upcalls": sum(upcalls),
        "forgotten": spent.get("upcall_forget", 0),
    }


def module_avail(point: Path, scratch: Path) -> None:
    """Lists the modules with Lmod."""
    scratch.mkdir()
    argv, environment = lmod.avail_command(point / "modules" / "all", scratch)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert len(lmod.listed_modules(done.stderr)) == MODULES


def scenarios(url: str, publisher: Publisher, mount: Callable[..., Path], scratch: Path) -> dict[str, dict[str, int]]:
    """Returns what each scenario costs, in one go with an empty cache, and how many entries the kernel forgot."""
    scratch.mkdir()
    point = mount(publisher.fqrn, publisher.client_settings(url, scratch / "cache"))
    found = {"mount": cost({}, (seen := counters(point)))}
    for name, work in (
        ("find", lambda: subprocess.run(["find", point / "files", "-size", "+1c"], check=True, capture_output=True)),
        ("module avail", lambda: module_avail(point, scratch / "home")),
        ("module avail, hot", lambda: module_avail(point, scratch / "again")),
    ):
        work()
        found[name] = cost(seen, (now := counters(point)))
        seen = now
    return found


@pytest.fixture
def measured(
    publisher: Publisher, server: Callable[[Path], Server], mount: Callable[..., Path], tmp_path: Path
) -> dict[str, dict[str, int]]:
    """What each scenario cost, in one go."""
    publisher.create()
    with publisher.transaction() as tree:
        build_modulefiles(tree / "modules", MODULES, names=20)
        (tree / ".cvmfsdirtab").write_text("/modules\n", "ascii")
        for number in range(300):
            path = tree / "files" / f"group-{number % 10}" / f"file-{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{number}\n" * 50, "ascii")
    running = server(publisher.storage.parent)
    for attempt in range(ATTEMPTS):
        asked = len(running.requests())
        found = scenarios(running.url, publisher, mount, tmp_path / f"attempt-{attempt}")
        assert running.requests()[-1]["path"]  # the log is there
        assert len(running.requests()) - asked == sum(spent["requests"] for spent in found.values())
        if not sum(spent.pop("forgotten") for spent in found.values()):
            break
    return found


def test_scenarios_keep_to_their_budget(measured: dict[str, dict[str, int]]) -> None:
    if os.environ.get("NEARFS_NEW_BUDGET"):
        BUDGET.write_text(json.dumps(measured, indent=2) + "\n", "ascii")
    budget: dict[str, dict[str, int]] = json.loads(BUDGET.read_text("ascii"))
    assert measured.keys() == budget.keys()
    for scenario, allowed in budget.items():
        for what, limit in allowed.items():
            spent = measured[scenario][what]
            assert spent <= limit * (1 + SLACK[what]) + (0 if what == "requests" else 2), (
                f"{scenario}: {spent:,} {what}, the budget is {limit:,} (bench/budget.json)"
            )
            assert spent >= limit * (1 - WORTH_KEEPING) - 2, (
                f"{scenario}: {spent:,} {what}, the budget is {limit:,}: write the gain down (see this head)"
            )
