"""From the mount command to its end, and to the first byte of a file: nothing cached, and with the disk cache."""

from bench.harness.commands import TREE, Command
from bench.harness.contender import Client
from bench.harness.processes import CommandFailed
from bench.harness.scenario import Scenario, Setting, Tally

DIRECTORY = "modules/all"


def measure(setting: Setting) -> None:
    """Records `mount` and `first-byte`, the latter with the mount in it."""
    client = setting.serving.client()
    first = min((setting.tree.source / DIRECTORY).rglob("*.lua")).relative_to(setting.tree.source)
    words = Command(("head", "-c", "1", f"{TREE}/{first}"))
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
    tally = Tally(setting, [client])
    mount_s = client.mount(empty_cache=state == "cold")
    setting.record("mount", state, {"wall_s": mount_s, **tally.sample()})
    run = client.run(words)
    if run.exit_code or len(run.stdout) != 1:
        raise CommandFailed(f"first-byte, {state}: exit code {run.exit_code}: {run.stderr[-500:]}")
    setting.record("first-byte", state, {"wall_s": mount_s + run.wall_s, **tally.sample()})


SCENARIO = Scenario("mount", "software", measure)
