"""Ten clients at once behind one line: `json.tool` on each, nothing cached and hot."""

import time
from concurrent.futures import ThreadPoolExecutor

from bench.harness.processes import CommandFailed
from bench.harness.scenario import Scenario, Setting, Tally
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
                tally = Tally(setting, clients)
                started = time.monotonic()
                with ThreadPoolExecutor(CLIENTS) as pool:
                    runs = list(pool.map(lambda client: client.run(words), clients))
                wall_s = time.monotonic() - started
                for run in runs:
                    if run.exit_code:
                        raise CommandFailed(f"one of {CLIENTS} clients: exit code {run.exit_code}: {run.stderr[-500:]}")
                    json_tool.check(run)
                processor = {"user_s": sum(run.user_s for run in runs), "system_s": sum(run.system_s for run in runs)}
                setting.record("ten-clients", state, {"wall_s": wall_s, **processor, **tally.sample()})
            for client in clients:
                client.unmount()
            done += 1
    finally:
        for client in clients:
            client.close()


SCENARIO = Scenario(
    "ten-clients",
    "software",
    measure,
    frozenset({"nearfs", "nearfs-nginx", "nearfs-squid", "nearfs-nginx-squid", "reference"}),
)
