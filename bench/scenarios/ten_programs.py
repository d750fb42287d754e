"""Ten different programs at once from one mount, and beside them a reader whom no guess can help.

Records the seconds until the last program is done, those of each, and what the reader waited for each of its files in
the first seconds, when all ten are at work: beside a client with nothing fetched ahead, the delay that fetching ahead
costs a demand request. One thread a program.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.harness.commands import TREE, Command, Run
from bench.harness.contender import Client
from bench.harness.processes import CommandFailed
from bench.harness.result import Sample
from bench.harness.scenario import Scenario, Setting, Tally
from bench.scenarios import json_tool, package_import, sourced_shell
from bench.trees import crowd, python_copy

PACE_MS = 200
# Later fewer of them are left, and fewest where they are fast: the line would be another one.
BESIDE_ALL_S = 10.0
_READY_LIMIT_S = 60.0
_READER_LIMIT_S = 600.0
_TOP = Path(__file__).resolve().parent.parent.parent


def programs(source: Path) -> Mapping[str, Command]:
    """Returns the programs by name, in words of figures; no two read the same files, but for Python's own."""
    modules = sorted((source / "modules" / "all").rglob("*.lua"))
    some = [f"{TREE}/{path.relative_to(source)}" for path in modules if path.parent.name[0] in "BCD"]
    return {
        "json_tool": json_tool.command(source),
        "import_sympy": package_import.command(source),
        "web_client": _python("import asyncio, email, http.client, ssl, urllib.request"),
        "documents": _python("import doctest, pydoc, unittest, xml.dom.minidom, xml.etree.ElementTree"),
        "tables": _python("import csv, decimal, fractions, sqlite3, statistics, zipfile"),
        "shell": sourced_shell.command(source),
        "other_shell": sourced_shell.of_environment("env/chemistry"),
        "grep": Command(("grep", "-rc", "zzzz", *(f"{TREE}/notes/section-{n:02d}" for n in range(8)))),
        "head": Command(("head", "-q", "-n", "1", *some)),
        "digests": Command(("sha1sum", *(f"{TREE}/notes/{name}" for name in _scattered(source / "notes")))),
    }


def measure(setting: Setting) -> None:
    """Records "cold", and "seen" where the client learns."""
    client = setting.serving.client()
    words = programs(setting.tree.source)
    states = ("cold", "seen") if setting.contender.learns else ("cold",)
    try:
        done = 0
        while setting.goes_on(done):
            for state in states:
                if state == "seen":
                    client.forget_content()
                client.mount(empty_cache=state == "cold")
                setting.record("ten-programs", state, _once(setting, client, words))
            client.unmount()
            done += 1
    finally:
        client.close()


def _once(setting: Setting, client: Client, words: Mapping[str, Command]) -> Sample:
    tally = Tally(setting, [client])
    with ThreadPoolExecutor(len(words) + 1) as pool, _reader(pool, client) as reader:
        started = time.monotonic()
        runs = dict(zip(words, pool.map(client.run, words.values()), strict=True))
        wall_s = time.monotonic() - started
    for name, run in runs.items():
        if run.exit_code not in ({0, 1} if name == "grep" else {0}):  # 1: it found nothing, which is so
            raise CommandFailed(f"ten-programs, {name}: exit code {run.exit_code}: {run.stderr[-500:]}")
    return {
        "wall_s": wall_s,
        "user_s": sum(run.user_s for run in runs.values()),
        "system_s": sum(run.system_s for run in runs.values()),
        **tally.sample(is_first=True),
        **_delays(reader.result(), started, wall_s),
        **{f"program_{name}_s": run.wall_s for name, run in runs.items()},
    }


@contextmanager
def _reader(pool: ThreadPoolExecutor, client: Client) -> Iterator[Future[Run]]:
    """Has the paced reader run, ready before and ended after."""
    paths = "".join(f"{TREE}/lone/{name}\n" for name in crowd.lone_files())
    with tempfile.TemporaryDirectory(prefix="nearfs-paced-") as signals:
        argv = (sys.executable, "-m", "bench.paced_reader", signals, "--every-ms", str(PACE_MS))
        environment = {"PYTHONPATH": str(_TOP), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        running = pool.submit(client.run, Command(argv, environment, paths, _READER_LIMIT_S))
        try:
            deadline = time.monotonic() + _READY_LIMIT_S
            while not (Path(signals) / "ready").exists():
                if running.done() or time.monotonic() > deadline:
                    raise CommandFailed(f"ten-programs: the reader does not begin: {running.result().stderr[-500:]}")
                time.sleep(0.01)
            yield running
        finally:
            (Path(signals) / "stop").touch()
            running.result()  # it reads the file that it is at


def _delays(reader: Run, started: float, wall_s: float) -> Sample:
    """Returns what the reader waited, in milliseconds, while the programs were at work."""
    if reader.exit_code:
        raise CommandFailed(f"ten-programs, the reader: exit code {reader.exit_code}: {reader.stderr[-500:]}")
    told: list[tuple[float, float]] = json.loads(reader.stdout)
    until = started + min(wall_s, BESIDE_ALL_S)
    waited = sorted(1000 * took_s for began, took_s in told if started <= began <= until)
    if len(waited) < 2:
        raise CommandFailed(f"ten-programs: the reader read {len(waited)} files only: the line is too short for it")
    cuts = statistics.quantiles(waited, n=20, method="inclusive")
    return {"reads": len(waited), "read_p50_ms": cuts[9], "read_p95_ms": cuts[18], "read_max_ms": waited[-1]}


def _python(program: str) -> Command:
    argv, environment = python_copy.start_command(Path(TREE) / "sw" / "python")
    return Command((*argv, "-c", program), environment)


def _scattered(notes: Path) -> list[str]:
    """Returns some notes of the sections that nobody greps, from one section to the next and the other kind."""
    chosen = [path for path in sorted(notes.rglob("note-*")) if int(path.parent.name[-2:]) >= 8]
    return [str(path.relative_to(notes)) for at in range(7) for path in chosen[at :: 7 * 2]]


SCENARIO = Scenario(
    "ten-programs",
    "software",
    measure,
    # Several programs in one place: on this machine's own kernel.
    frozenset({"nearfs", "nearfs-off", "nearfs-packs", "nearfs-bundles", "nearfs-squid", "reference"}),
)
