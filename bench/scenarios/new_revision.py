"""`module avail` after a new revision changed 10 of 1,000 modulefiles: the disk cache has the rest."""

from pathlib import Path

from bench import lmod
from bench.harness.commands import SCRATCH, TREE, Command
from bench.harness.processes import CommandFailed
from bench.harness.scenario import Scenario, Setting, accounted
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
            setting.site.change(lambda union, number=done: _change(union, number))  # type: ignore[misc]
            counts, traffic = client.counts(), setting.line.traffic()
            mount_s = client.mount(empty_cache=False)
            run, sample = accounted(client, setting.line, lambda: client.run(words))
            if run.exit_code:
                raise CommandFailed(f"new-revision: exit code {run.exit_code}: {run.stderr[-500:]}")
            module_avail.check(run)
            asked, crossed = client.counts().since(counts), setting.line.traffic()
            wire = crossed.up_bytes + crossed.down_bytes - traffic.up_bytes - traffic.down_bytes
            whole = {"requests": asked.requests, "fetched_bytes": asked.fetched_bytes, "upcalls": asked.upcalls}
            setting.record(
                "new-revision", "warm", {**sample, **whole, "wall_s": mount_s + run.wall_s, "wire_bytes": wire}
            )
            done += 1
    finally:
        client.close()


def _change(union: Path, number: int) -> None:
    for path in sorted((union / "all").rglob("*.lua"))[:CHANGED]:
        path.write_text(f"{path.read_text()}\n-- revision {number}\n")


SCENARIO = Scenario(
    "new-revision",
    "mount and module avail after a change of 10 modulefiles",
    "modules",
    measure,
    # Not through Squid: it keeps a manifest for a minute, and the client would rightly show the revision before.
    frozenset({"nearfs", "nearfs-nginx", "reference"}),
)
