"""What a scenario is, and the usual one: one command, cold, hot, warm, and cold once more with what was learned.

Owns the states and their order. Does not own which contenders or lines are measured (`bench.harness.plan`), nor where
samples go (the caller's `record`). One thread a client.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.harness.commands import Command, Counts, Run
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
    tree: str
    measure: Callable[[Setting], None]
    #: Contenders' names that it makes sense for; None for all.
    only: frozenset[str] | None = None
    #: The command that it runs, where it runs one: told where the plain tree lies, for what it must know of it.
    command: Callable[[Path], Command] | None = None
    #: For a program that a publisher would record, where the tree is published with bundles: the file that begins its
    #: bundle, or nothing for the first one that it opens. None for all others.
    bundle_begins: str | None = None


class Tally:
    """Counts of some clients, the server and the line, from the moment when it is made."""

    def __init__(self, setting: Setting, clients: Sequence[Client]) -> None:
        self._setting, self._clients = setting, clients
        self._served, self._asked, self._crossed = self._now()

    def sample(self, *, is_first: bool = False) -> Sample:
        """Returns what was counted since, as a sample has it; with what was in vain if it is the first of its mount."""
        upcalls = [client.counts().upcalls for client in self._clients]  # before anybody asks for other counters
        ahead = [client.ahead() for client in self._clients]
        served, asked, crossed = self._now()
        at_server = served.since(self._served)
        by_client = [now.since(then) for now, then in zip(asked, self._asked, strict=True)]
        return {
            "requests": _sum([counts.requests for counts in by_client]),
            "fetched_bytes": _sum([counts.fetched_bytes for counts in by_client]),
            "upcalls": _sum([_minus(now, then.upcalls) for now, then in zip(upcalls, self._asked, strict=True)]),
            "server_requests": at_server.requests,
            "server_bytes": at_server.fetched_bytes,
            "wire_bytes": crossed - self._crossed,
            **(_account(ahead) if is_first else {}),
        }

    def _now(self) -> tuple[Counts, list[Counts], int]:
        traffic = self._setting.line.traffic()
        asked = [client.counts() for client in self._clients]
        return self._setting.serving.served(), asked, traffic.up_bytes + traffic.down_bytes


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _minus(now: int | None, then: int | None) -> int | None:
    return None if now is None or then is None else now - then


def _account(ahead: Sequence[Mapping[str, int]]) -> Sample:
    """Returns what clients counted of what they fetched ahead, all together; nothing where one does not count."""
    if not all(ahead):
        return {}
    total = Counter[str]()
    for counters in ahead:
        total.update(counters)
    fetched, unused = total["request_bytes"], total["prefetch_unused_bytes"]
    found = {name: total[name] for name in sorted(total) if name.startswith("prefetch_")}
    return {"needed_bytes": fetched - unused, "unused_bytes": unused, **found}


def times(run: Run) -> Sample:
    """Returns what a run took, as a sample has it."""
    return {"wall_s": run.wall_s, "user_s": run.user_s, "system_s": run.system_s}


def of_command(
    name: str,
    tree: str,
    command: Callable[[Path], Command],
    check: Callable[[Run], None],
    figures: Callable[[Run], Sample] = lambda _run: {},
    *,
    bundle_begins: str | None = None,
) -> Scenario:
    """Returns the scenario that runs one command cold, hot, warm (where there is a disk cache) and seen.

    "Seen" is cold with all that the client learned in the runs before.

    `command` is told where the plain tree lies, for what it must know of it; `check` raises `CommandFailed` where the
    output is not what it has to be; `figures` reads further values out of it.
    """

    def measure(setting: Setting) -> None:
        words = command(setting.tree.source)
        client = setting.serving.client()

        def once(state: str) -> None:
            tally = Tally(setting, [client])
            run = client.run(words)
            sample = {**times(run), **tally.sample(is_first=state != "hot")}
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
                if setting.contender.learns:
                    client.forget_content()
                    client.mount(empty_cache=False)
                    once("seen")
                client.unmount()
                done += 1
        finally:
            client.close()

    return Scenario(name, tree, measure, command=command, bundle_begins=bundle_begins)


def said(text: str) -> Callable[[Run], None]:
    """Returns the check that standard output has a text."""

    def check(run: Run) -> None:
        if text not in run.stdout:
            raise CommandFailed(f"the output has no {text!r}: {run.stdout[-500:]} {run.stderr[-500:]}")

    return check
