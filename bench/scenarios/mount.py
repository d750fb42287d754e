"""From the mount command to its end, and to the first byte of a file: nothing cached, and with the disk cache."""

from bench.harness.commands import TREE, Command, Run
from bench.harness.contender import Client
from bench.harness.processes import CommandFailed
from bench.harness.scenario import Scenario, Setting, accounted

FIRST_FILE = "modules/all"


def measure(setting: Setting) -> None:
    """Records `mount` and `first-byte`, the latter with the mount in it."""
    client = setting.serving.client()
    listing = sorted(path for path in (setting.tree.source / FIRST_FILE).rglob("*.lua"))
    name = listing[0].relative_to(setting.tree.source)
    words = Command(("head", "-c", "1", f"{TREE}/{name}"))
    try:
        done = 0
        while setting.goes_on(done):
            _once(setting, client, words, "cold")
            if setting.contender.has_disk_cache:
                _once(setting, client, words, "warm")
            done += 1
    finally:
        client.close()


def _once(setting: Setting, client: Client, words: Command, state: str) -> None:
    client.unmount()

    def mount() -> Run:
        return Run(client.mount(empty_cache=state == "cold"), 0.0, 0.0, 0, "", "")

    _, mounted = accounted(client, setting.line, mount)
    mounted = {**mounted, "user_s": None, "system_s": None}
    run, first = accounted(client, setting.line, lambda: client.run(words))
    if run.exit_code or len(run.stdout) != 1:
        raise CommandFailed(f"first byte, {state}: exit code {run.exit_code}: {run.stderr[-500:]}")
    setting.record("mount", state, mounted)
    both = {key: _plus(mounted[key], first[key]) for key in first}
    setting.record("first-byte", state, both)


def _plus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


SCENARIO = Scenario("mount", "mount, and the first byte", "software", measure)
