"""The form of a result: cells of samples, and what is computed from them.

Owns the schema that `machine.write_result` keeps, `compare` and `report` read. Schema 1:

    {"schema": 1, "machine": {...}, "profile": "quick" | "cold" | "full" | "custom", "took_s": 512.3,
     "lines": [{"rtt_ms": 50, "rate_mbit": 100, "loss": 0, "measured_rtt_ms": 50.3, "measured_rate_mbit": 99.1}],
     "cells": [{"scenario": "module-avail", "contender": "nearfs", "state": "cold", "rtt_ms": 50, "rate_mbit": 100,
                "loss": 0, "samples": [{"wall_s": 53.1, "user_s": 0.8, "system_s": 0.2, "requests": 1001,
                "fetched_bytes": 1200000, "upcalls": 3000, "wire_bytes": 1500000, ...}], "notes": ["..."]}],
     "absent": [{"contender": "reference", "why": "..."}]}

States are `mount`; `cold`: all caches empty; `seen`: as cold, but what the client learned of earlier runs is there;
`warm`: the disk cache is filled, the kernel's are empty; `hot`. `rtt_ms`, `rate_mbit` and `loss` are null in cells
where nothing crosses a line. A sample's values are null where they are not known. Where a client counts what it fetches
ahead, samples of the first run of a mount have `needed_bytes` and `unused_bytes` (what was asked for, and what was
fetched in vain, since the mount began) and the client's `prefetch_...` counters. Scenarios may add values of their own
(`first_byte_s`, `mib_per_s`, `p50_us`, ...), all numbers, and one `histogram` ([[upper bound in us, count], ...]).
Single-threaded.
"""

import statistics
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1
STATES = ("mount", "cold", "seen", "warm", "hot")

Sample = dict[str, Any]


@dataclass(frozen=True)
class LineKey:
    """What a line was asked to be."""

    rtt_ms: float
    rate_mbit: float
    loss: float = 0.0

    def __str__(self) -> str:
        lost = f", {self.loss:.1%} lost" if self.loss else ""
        return f"{self.rtt_ms:g} ms, {self.rate_mbit:g} Mbit/s{lost}"


@dataclass
class Cell:
    """All samples of one scenario by one contender in one state over one line (None: no line)."""

    scenario: str
    contender: str
    state: str
    line: LineKey | None
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def values(self, name: str) -> list[float]:
        """Returns the known values of one figure."""
        return [sample[name] for sample in self.samples if sample.get(name) is not None]

    def median(self, name: str = "wall_s") -> float | None:
        """Returns the median of a figure, None where no sample has it."""
        values = self.values(name)
        return statistics.median(values) if values else None

    def to_json(self) -> dict[str, Any]:
        """Returns the cell as the schema has it."""
        line = self.line
        return {
            "scenario": self.scenario,
            "contender": self.contender,
            "state": self.state,
            "rtt_ms": line.rtt_ms if line else None,
            "rate_mbit": line.rate_mbit if line else None,
            "loss": line.loss if line else None,
            "samples": self.samples,
            "notes": self.notes,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Cell":
        """Reads a cell back."""
        line = None
        if value["rtt_ms"] is not None:
            line = LineKey(value["rtt_ms"], value["rate_mbit"], value["loss"])
        return cls(value["scenario"], value["contender"], value["state"], line, value["samples"], value["notes"])


def stall(cold: Cell, hot: Cell) -> float | None:
    """Returns the stall in round trips: (cold time - hot time) / RTT; None without a line or a sample."""
    cold_s, hot_s = cold.median(), hot.median()
    if cold.line is None or cold_s is None or hot_s is None:
        return None
    return (cold_s - hot_s) / (cold.line.rtt_ms / 1000)
