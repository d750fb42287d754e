"""Executes a plan: trees, lines and servers are made as they are needed, samples become cells, cells a result.

Owns the order and what happens when something cannot be measured: it is said, kept in the result, and the rest goes on.
Items that mostly wait for a long line are measured side by side, each over a line of its own: before everything else if
the plan begins with one, after it otherwise. Everything else runs alone. The main thread and one thread for each
patient item; cells are guarded by one lock.
"""

import contextlib
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench import scenarios
from bench.harness.commands import Command
from bench.harness.contender import Tree
from bench.harness.discards import discard
from bench.harness.display import Display, summary
from bench.harness.figures import scenario_title
from bench.harness.machine import write_result
from bench.harness.plan import Item
from bench.harness.processes import CommandFailed
from bench.harness.result import SCHEMA, Cell, LineKey, Sample
from bench.harness.scenario import Setting
from bench.harness.site import Site, copy_into
from bench.harness.variant import Variant
from bench.lab import line as lines
from bench.lab.servers import ServerError
from bench.trees.catalogue import RECIPES

# Four guests of a quarter of a core each, on the two cores of a small machine.
SIDE_BY_SIDE = 4
_EXPECTED = (CommandFailed, ServerError, lines.LineError, subprocess.SubprocessError, OSError, ValueError)


class Runner:
    """One run below `home`."""

    def __init__(self, home: Path, profile: str, *, fail_fast: bool = False) -> None:
        self._home = home
        self._profile = profile
        self._fail_fast = fail_fast
        self._cells: dict[tuple[str, str, str, LineKey | None], Cell] = {}
        self._absent: list[dict[str, str]] = []
        self._lines: list[dict[str, float]] = []
        self._trees: dict[tuple[str, str], tuple[Site, Tree]] = {}
        self._display = Display()
        self._guard = threading.Lock()
        self._building = threading.Lock()

    def run(self, items: list[Item], results: Path | None) -> int:
        """Measures everything, prints the table and keeps the result; 1 if something could not be measured."""
        started = time.monotonic()
        items = [item for item in items if self._is_there(item)]
        patient = [item for item in items if item.is_patient]
        alone = [item for item in items if not item.is_patient]
        with self._display:
            self._display.start(sum(len(item.scenarios) for item in alone) + bool(patient))
            if patient and items[0].is_patient:
                self._side_by_side(patient)
            for item in alone:
                self._item(item, "line", 1)
            if patient and not items[0].is_patient:
                self._side_by_side(patient)
        payload = self.result(time.monotonic() - started)
        reasons = ((f"{entry['contender']}, {entry['scenario']}".rstrip(", "), entry["why"]) for entry in self._absent)
        summary(list(self._cells.values()), list(reasons))
        if results is not None:
            print(f"kept as {write_result(f'bench-{self._profile}', payload, results).name}")
        return 1 if any(entry["scenario"] for entry in self._absent) else 0

    def result(self, took_s: float) -> dict[str, Any]:
        """Returns what is kept."""
        return {
            "schema": SCHEMA,
            "profile": self._profile,
            "took_s": round(took_s, 1),
            "lines": self._lines,
            "cells": [cell.to_json() for cell in self._cells.values()],
            "absent": self._absent,
        }

    def _side_by_side(self, items: list[Item]) -> None:
        names = ", ".join(f"{item.contender.name} ({item.line})" for item in items)
        self._display.step(f"side by side, each over a line of its own: {names};", items[0].contender.name, None)
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            beside = min(len(items), SIDE_BY_SIDE)
            for done in [pool.submit(self._item, item, f"lane{n}", beside) for n, item in enumerate(items)]:
                done.result()

    def _is_there(self, item: Item) -> bool:
        why = item.contender.missing()
        if why is not None:
            entry = {"contender": item.contender.name, "scenario": "", "why": why}
            if entry not in self._absent:
                self._absent.append(entry)
                self._say(f"{item.contender.name}: left out: {why}")
        return why is None

    def _item(self, item: Item, lane: str, beside: int) -> None:
        contender = item.contender
        home = self._home / f"{lane}-{contender.name}-{time.monotonic_ns()}"
        home.mkdir()
        try:
            site, tree = self._tree(item.tree, contender.variant)
            with contextlib.ExitStack() as stack:
                line = stack.enter_context(lines.up(item.line, lane, check=contender.is_remote))
                if contender.is_remote:
                    self._note_line(line)
                serving = stack.enter_context(contender.serving(home, line, tree))
                for name in item.scenarios:
                    if beside == 1:
                        where = item.line if contender.is_remote else None
                        self._display.step(scenario_title(name), contender.name, where)
                    record = _Recorder(self, item, contender.is_remote, beside)
                    setting = Setting(contender, serving, line, tree, site, record, item.effort)
                    self._scenario(name, setting)
        except _EXPECTED as error:
            self._failed(contender.name, ", ".join(item.scenarios), error)
        finally:
            discard(home)

    def _scenario(self, name: str, setting: Setting) -> None:
        try:
            scenarios.ALL[name].measure(setting)
        except _EXPECTED as error:
            self._failed(setting.contender.name, name, error)

    def _failed(self, contender: str, scenario: str, error: Exception) -> None:
        if self._fail_fast:
            raise error
        why = f"{type(error).__name__}: {error}"
        with self._guard:
            self._absent.append({"contender": contender, "scenario": scenario, "why": why})
        self._say(f"{contender}, {scenario}: not measured: {why}")

    def _tree(self, name: str, variant: Variant) -> tuple[Site, Tree]:
        """Returns a tree, built at the first call and published at the first in this variant."""
        with self._building:
            if (name, variant.name) not in self._trees:
                recipe = RECIPES[name]
                source = self._home / "trees" / name
                if not source.exists():
                    self._say(f"building: {recipe.title}")
                    source.parent.mkdir(exist_ok=True)
                    recipe.build(source)
                self._say(f"publishing ({variant.name}): {recipe.title}")
                site = Site(self._home / f"site-{name}-{variant.name}", f"{name}.bench.example.org")
                site.create(variant.settings)
                site.change(copy_into(source))
                programs = _recorded(name, source)
                if variant.has_bundles and programs:
                    site.publish_bundles(programs)
                self._trees[name, variant.name] = (site, site.tree(name, source))
            return self._trees[name, variant.name]

    def _note_line(self, line: lines.Line) -> None:
        key = line.key
        note = {"rtt_ms": key.rtt_ms, "rate_mbit": key.rate_mbit, "loss": key.loss}
        measured = {
            "measured_rtt_ms": round(line.measured_rtt_ms, 3),
            "measured_rate_mbit": round(line.measured_rate_mbit, 2),
        }
        with self._guard:
            self._lines.append({**note, **measured})

    def keep(self, key: tuple[str, str, str, LineKey | None], sample: Sample, beside: int) -> None:
        """Adds a sample to its cell."""
        with self._guard:
            cell = self._cells.setdefault(key, Cell(*key))
            cell.samples.append(sample)
            note = f"measured beside {beside - 1} others that wait for lines of their own"
            if beside > 1 and note not in cell.notes:
                cell.notes.append(note)
            if beside == 1:
                self._display.sample(cell)
            else:
                where = f"{key[1]}, {key[0]}, {key[2]}" + (f", {key[3]}" if key[3] else "")
                self._display.note(f"{where}: {sample['wall_s']:.1f} s")

    def _say(self, text: str) -> None:
        with self._guard:
            self._display.note(text)


def _recorded(tree: str, source: Path) -> list[tuple[Command, str]]:
    """Returns the programs over a tree that a publisher would record, and where their bundles begin."""
    return [
        (scenario.command(source), scenario.bundle_begins)
        for scenario in scenarios.ALL.values()
        if scenario.tree == tree and scenario.command is not None and scenario.bundle_begins is not None
    ]


class _Recorder:
    """Knows where the samples of a setting belong."""

    def __init__(self, runner: Runner, item: Item, is_remote: bool, beside: int) -> None:  # noqa: FBT001 -- private
        self._runner, self._item, self._is_remote, self._beside = runner, item, is_remote, beside

    def __call__(self, scenario: str, state: str, sample: Sample, contender: str | None = None) -> None:
        key = (scenario, contender or self._item.contender.name, state, self._item.line if self._is_remote else None)
        self._runner.keep(key, sample, self._beside)
