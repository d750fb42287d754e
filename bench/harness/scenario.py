"""What a scenario is, and the usual one: one command, cold, hot, and warm.

Owns the states and their order. Does not own which contenders or lines are measured (`bench.harness.plan`), nor where
samples go (the caller's `record`). One thread a client.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.harness.commands import Command, Run
from bench.harness.contender import Client, Contender, Serving, Tree
from bench.harness.processes import CommandFailed
from bench.harness.result import Sample
from bench.harness.site import Site
from bench.lab.line import Line


class Record(Protocol):
    """Keeps a sample of a scenario in a state; `contender` where it is not the one of the setting."""

    def __call__(self, scenario: str, state: str, sample: Sample, contender: str | None = None) -> None:
        """Keeps it."""


@dataclass(frozen=True)
class Effort:
    """How often something is measured: up to `repeats` times, but no further time once `budget_s` are used up."""

    repeats: int
    budget_s: float


@dataclass
class Setting:
    """What a scenario measures in: a contender whose servers run, at one end of a line."""

    contender: Contender
    serving: Serving
    line: Line
    tree: Tree
    site: Site
    record: Record
    effort: Effort
    started: float = field(default_factory=time.monotonic)

    def goes_on(self, done: int) -> bool:
        """Tells whether another repetition is to be made after `done` of them."""
        is_in_budget = time.monotonic() - self.started < self.effort.budget_s
        return done == 0 or (done < self.effort.repeats and is_in_budget)


@dataclass(frozen=True)
class Scenario:
    """A question about a tree; `measure` answers it for one setting."""

    name: str
    title: str
    tree: str
    measure: Callable[[Setting], None]
    #: Contenders' names that it makes sense for; None for all.
    only: frozenset[str] | None = None


def accounted(client: Client, line: Line, work: Callable[[], Run]) -> tuple[Run, Sample]:
    """Runs `work` and returns it with its sample: times, and the client's and the line's counts."""
    counts, traffic = client.counts(), line.traffic()
    run = work()
    asked, crossed = client.counts().since(counts), line.traffic()
    sample: Sample = {
        "wall_s": run.wall_s,
        "user_s": run.user_s,
        "system_s": run.system_s,
        "requests": asked.requests,
        "fetched_bytes": asked.fetched_bytes,
        "upcalls": asked.upcalls,
        "wire_bytes": crossed.up_bytes + crossed.down_bytes - traffic.up_bytes - traffic.down_bytes,
    }
    return run, sample


def of_command(
    name: str,
    title: str,
    tree: str,
    command: Callable[[Path], Command],
    check: Callable[[Run], None],
    figures: Callable[[Run], Sample] = lambda _run: {},
) -> Scenario:
    """Returns the scenario that runs one command cold, hot and (where there is a disk cache) warm.

    `command` is told where the plain tree lies, for what it must know of it; `check` raises `CommandFailed` where the
    output is not what it has to be; `figures` reads further values out of it.
    """

    def measure(setting: Setting) -> None:
        words = command(setting.tree.source)
        client = setting.serving.client()

        def once(state: str) -> None:
            run, sample = accounted(client, setting.line, lambda: client.run(words))
            if run.exit_code:
                raise CommandFailed(f"{name}, {state}: exit code {run.exit_code}: {run.stderr[-1000:]}")
            check(run)
            setting.record(name, state, {**sample, **figures(run)})

        try:
            done = 0
            while setting.goes_on(done):
                client.mount(empty_cache=True)
                once("cold")
                once("hot")
                if setting.contender.has_disk_cache:
                    client.mount(empty_cache=False)
                    once("warm")
                client.unmount()
                done += 1
        finally:
            client.close()

    return Scenario(name, title, tree, measure)


def said(text: str) -> Callable[[Run], None]:
    """Returns the check that standard output has a text."""

    def check(run: Run) -> None:
        if text not in run.stdout:
            raise CommandFailed(f"the output has no {text!r}: {run.stdout[-500:]} {run.stderr[-500:]}")

    return check
