"""`module avail` after a new revision changed 10 of 1,000 modulefiles: the disk cache has the rest.

The client is mounted anew: it does not change the revision under a mount yet.
"""

from functools import partial
from pathlib import Path

from bench import lmod
from bench.harness.commands import SCRATCH, TREE, Command
from bench.harness.processes import CommandFailed
from bench.harness.scenario import Scenario, Setting, Tally, times
from bench.scenarios import module_avail

CHANGED = 10


def measure(setting: Setting) -> None:
    """Records mount and listing together, with a cache that was filled from the revision before."""
    argv, environment = lmod.avail_command(Path(TREE) / "all", Path(SCRATCH))
    words = Command(tuple(argv), environment)
    client = setting.serving.client()
    try:
        client.mount(empty_cache=True)
        client.run(words)
        done = 0
        while setting.goes_on(done):
            client.unmount()
            setting.site.change(partial(_change, number=done))
            tally = Tally(setting, [client])
            mount_s = client.mount(empty_cache=False)
            run = client.run(words)
            sample = {**times(run), **tally.sample(), "wall_s": mount_s + run.wall_s}
            if run.exit_code:
                raise CommandFailed(f"new-revision: exit code {run.exit_code}: {run.stderr[-500:]}")
            module_avail.check(run)
            newest = client.run(Command(("sh", "-c", 'grep -rl "revision $2" "$1" | wc -l', "sh", TREE, str(done))))
            if int(newest.stdout) != CHANGED:
                raise CommandFailed(f"new-revision: {newest.stdout.strip()} of {CHANGED} changes are seen")
            setting.record("new-revision", "warm", sample)
            done += 1
    finally:
        client.close()


def _change(union: Path, number: int) -> None:
    for path in sorted((union / "all").rglob("*.lua"))[:CHANGED]:
        path.write_text(f"{path.read_text()}\n-- revision {number}\n")


SCENARIO = Scenario(
    "new-revision",
    "modules",
    measure,
    # Not through Squid: it keeps a manifest for a minute, and the client would rightly show the revision before.
    frozenset({"nearfs", "nearfs-nginx", "reference"}),
)
