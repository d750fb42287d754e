"""Ten clients at once behind one line: `json.tool` on each, nothing cached and hot."""

import time
from concurrent.futures import ThreadPoolExecutor

from bench.harness.commands import Counts, Run
from bench.harness.contender import Client
from bench.harness.processes import CommandFailed
from bench.harness.result import Sample
from bench.harness.scenario import Scenario, Setting
from bench.scenarios import json_tool

CLIENTS = 10


def measure(setting: Setting) -> None:
    """Records the time until the last of them is done, and the counts of all together."""
    words = json_tool.command(setting.tree.source)
    clients = [setting.serving.client(number) for number in range(CLIENTS)]
    try:
        done = 0
        while setting.goes_on(done):
            for client in clients:
                client.mount(empty_cache=True)
            for state in ("cold", "hot"):
                before, traffic = [client.counts() for client in clients], setting.line.traffic()
                started = time.monotonic()
                with ThreadPoolExecutor(CLIENTS) as pool:
                    runs = list(pool.map(lambda client: client.run(words), clients))
                wall_s = time.monotonic() - started
                crossed = setting.line.traffic()
                wire = crossed.up_bytes + crossed.down_bytes - traffic.up_bytes - traffic.down_bytes
                asked = [client.counts().since(then) for client, then in zip(clients, before, strict=True)]
                setting.record("ten-clients", state, {**_sample(runs, asked), "wall_s": wall_s, "wire_bytes": wire})
            for client in clients:
                client.unmount()
            done += 1
    finally:
        _close(clients)


def _sample(runs: list[Run], asked: list[Counts]) -> Sample:
    for run in runs:
        if run.exit_code:
            raise CommandFailed(f"one of {CLIENTS} clients: exit code {run.exit_code}: {run.stderr[-500:]}")
    return {
        "user_s": sum(run.user_s for run in runs),
        "system_s": sum(run.system_s for run in runs),
        "requests": _sum([counts.requests for counts in asked]),
        "fetched_bytes": _sum([counts.fetched_bytes for counts in asked]),
        "upcalls": _sum([counts.upcalls for counts in asked]),
    }


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _close(clients: list[Client]) -> None:
    for client in clients:
        client.close()


SCENARIO = Scenario(
    "ten-clients",
    "json.tool on ten clients at once",
    "software",
    measure,
    frozenset({"nearfs", "nearfs-nginx", "nearfs-squid", "reference"}),
)
