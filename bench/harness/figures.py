"""How figures are found among cells, and how they are written for people.

Owns the order and the titles of scenarios and contenders, the look-up of a cell, and the texts of numbers. Knows no
table and no file. Immutable after construction, so free of threads' concerns.
"""

from collections.abc import Iterable

from bench.harness.result import STATES, Cell, LineKey, stall
from bench.harness.results_file import key_of

NOTHING = "-"
MIN_STALL_RTT_MS = 1  # below, a millisecond of processor time would count as many round trips

SCENARIOS = {
    "mount": "Mount",
    "first-byte": "Mount and first byte",
    "json-tool": "python3 -m json.tool",
    "module-avail": "module avail",
    "package-import": "import sympy, 1,600 files",
    "sourced-shell": "Shell that sources 200 files",
    "stat-storm": "git status over 1,200 files",
    "find": "find -size over 1,200 files",
    "tar": "tar of 240 small files",
    "small-opens": "Open, read and close 240 small files",
    "one-of-each": "One small file of each of 250 directories",
    "random-access": "250 small files anywhere among 30,000",
    "big-file-sequential": "Read of 1 GiB in order",
    "big-file-random": "50 random reads in 1 GiB",
    "huge-directory": "ls -l of 200,000 entries",
    "ten-clients": "json.tool on ten clients at once",
    "ten-programs": "Ten different programs at once",
    "untuned-1": "perl with 20 modules",
    "untuned-2": "docutils, a document to HTML",
    "untuned-3": "g++ with 20 headers",
    "new-revision": "Mount and module avail after a change of 10 modulefiles",
    "publish-30000": "Publish of 30,000 small files",
    "publish-one-file": "Publish of a change of one file",
}
TALK = ("json-tool", "module-avail")
CONTENDERS = {
    "nfs3": "NFSv3",
    "nfs4": "NFSv4.2",
    "nfs3-tuned": "NFSv3, tuned",
    "nfs4-tuned": "NFSv4.2, tuned",
    "reference": "reference client",
    "nearfs": "nearfs",
    "nearfs-packs": "nearfs, packs",
    "nearfs-bundles": "nearfs, bundles",
    "nearfs-off": "nearfs, nothing ahead",
    "nearfs-nginx": "nearfs from nginx",
    "nearfs-squid": "nearfs through Squid",
    "nearfs-packs-squid": "nearfs, packs, through Squid",
    "nearfs-bundles-squid": "nearfs, bundles, through Squid",
    "nearfs-nginx-squid": "nearfs from nginx through Squid",
    "portable": "nearfs, portable loop",
    "guest-nearfs": "nearfs in the guest",
    "guest-local": "the guest's local disk",
    "squashfuse": "squashfuse, local",
    "local": "ext4, local",
    "floor": "read, deflate and hash alone",
}
# What samples may hold beside what every scenario measures, and how it is headed.
_HEADINGS = {
    "wall_s": "seconds",
    "requests": "requests",
    "fetched_bytes": "bytes",
    "upcalls": "upcalls",
    "needed_bytes": "bytes needed",
    "unused_bytes": "bytes in vain",
    "wire_bytes": "bytes on the line",
    "server_requests": "requests at the server",
    "server_bytes": "bytes from the server",
    "mib_per_s": "MiB/s",
}
_UNITS = {"_s": " (s)", "_ms": " (ms)", "_us": " (µs)", "_ns": " (ns)", "_bytes": " (bytes)"}


class Board:
    """The cells of a result, found by what they measured."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._cells = {key_of(cell): cell for cell in cells}

    def cell(self, scenario: str, contender: str, state: str, line: LineKey | None) -> Cell | None:
        """Returns the cell over this very line; None where nothing was measured."""
        found = self._cells.get((scenario, contender, state, line))
        return found if found is not None and found.samples else None

    def near(self, scenario: str, contender: str, state: str, line: LineKey | None) -> Cell | None:
        """Returns the cell over a line, or that of a contender for which lines make no difference."""
        return self.cell(scenario, contender, state, line) or self.cell(scenario, contender, state, None)

    def cells(self, scenario: str) -> list[Cell]:
        """Returns the cells of one scenario that have samples, in reading order."""
        found = [cell for cell in self._cells.values() if cell.scenario == scenario and cell.samples]
        return sorted(found, key=lambda cell: (line_rank(cell.line), _rank(CONTENDERS, cell.contender), _state(cell)))

    def scenarios(self) -> list[str]:
        """Returns the names of what was measured, in reading order."""
        names = {cell.scenario for cell in self._cells.values() if cell.samples}
        return sorted(names, key=lambda name: _rank(SCENARIOS, name))

    def lines(self, *scenarios: str) -> list[LineKey]:
        """Returns the lines over which any of the scenarios was measured (none named: any at all)."""
        cells = [
            cell for cell in self._cells.values() if cell.samples and (cell.scenario in scenarios or not scenarios)
        ]
        return sorted({cell.line for cell in cells if cell.line is not None}, key=line_rank)

    def contenders(self, *scenarios: str) -> list[str]:
        """Returns who was measured in any of the scenarios (none named: in any at all), in reading order."""
        cells = [
            cell for cell in self._cells.values() if cell.samples and (cell.scenario in scenarios or not scenarios)
        ]
        return sorted({cell.contender for cell in cells}, key=lambda name: _rank(CONTENDERS, name))

    def mount(self, contender: str, line: LineKey | None) -> Cell | None:
        """Returns the mount with empty caches, from the scenario of that name or from that of the talk's programs."""
        places = [("mount", "mount"), ("mount", "cold"), *((scenario, "mount") for scenario in TALK)]
        for scenario, state in places:
            cell = self.near(scenario, contender, state, line)
            if cell is not None:
                return cell
        return None

    def mount_stall(self, contender: str, line: LineKey) -> float | None:
        """Returns the round trips of a mount: what it takes longer than over a line that is shorter by so much.

        None without a shorter line; the shortest one takes the least away.
        """
        lines = [at for at in self.lines("mount", *TALK) if at.loss == 0 and self.mount(contender, at)]
        base = min(lines, key=lambda at: at.rtt_ms, default=line)
        apart_ms = line.rtt_ms - base.rtt_ms
        far, near = (cell.median() if cell else None for cell in (self.mount(contender, at) for at in (line, base)))
        return (far - near) * 1000 / apart_ms if far and near and apart_ms >= MIN_STALL_RTT_MS else None

    def stall(self, scenario: str, contender: str, line: LineKey, state: str = "cold") -> float | None:
        """Returns the stall of a scenario in round trips; None without both runs, or on too short a line."""
        cold, hot = self.cell(scenario, contender, state, line), self.cell(scenario, contender, "hot", line)
        return stall(cold, hot) if cold is not None and hot is not None and line.rtt_ms >= MIN_STALL_RTT_MS else None


def line_rank(line: LineKey | None) -> tuple[bool, float, float, float]:
    """Returns where a line stands among lines: lossless first, then by rate and RTT; what crosses none comes last."""
    return (True, 0.0, 0.0, 0.0) if line is None else (False, line.loss, line.rate_mbit, line.rtt_ms)


def scenario_title(name: str) -> str:
    """Returns what readers see of a scenario."""
    return SCENARIOS.get(name, name)


def contender_title(name: str) -> str:
    """Returns what readers see of a contender."""
    return CONTENDERS.get(name, name)


def heading(figure: str) -> str:
    """Returns how a column of this figure of samples is headed, with its unit."""
    if figure in _HEADINGS:
        return _HEADINGS[figure]
    for suffix, unit in _UNITS.items():
        if figure.endswith(suffix):
            return figure.removesuffix(suffix).replace("_", " ") + unit
    return figure.replace("_", " ")


def figure_text(figure: str, value: float | None) -> str:
    """Returns a figure in the words that suit its unit."""
    if figure.endswith("bytes"):
        return bytes_text(value)
    if figure.endswith("_s") and not figure.endswith("per_s"):
        return seconds_text(value)
    return count_text(value)


def seconds_text(value: float | None) -> str:
    """Returns seconds with three significant digits, two below a tenth, and never an exponent."""
    if value is None:
        return NOTHING
    size = abs(value)
    if size >= 100 or size == 0:
        return f"{value:,.0f}"
    digits = 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.01 else 5
    return f"{value:.{digits}f}"


def bytes_text(value: float | None) -> str:
    """Returns bytes in decimal units, as lines are rated."""
    if value is None:
        return NOTHING
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g} {unit}" if abs(value) < size * 999 else f"{value / size:,.0f} {unit}"
    return f"{value:,.0f} B"


def count_text(value: float | None) -> str:
    """Returns a count; what is no whole number (a median of two) has one digit more, or three below ten."""
    if value is None:
        return NOTHING
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"


def stall_text(value: float | None) -> str:
    """Returns round trips: whole ones from ten on."""
    if value is None:
        return NOTHING
    text = f"{value:,.0f}" if abs(value) >= 10 else f"{value:.1f}"
    return "0.0" if text == "-0.0" else text


def spread_text(values: list[float]) -> str:
    """Returns the least and the greatest of several seconds; of one alone there is no spread."""
    return f"{seconds_text(min(values))} to {seconds_text(max(values))}" if len(values) > 1 else NOTHING


def _rank(known: dict[str, str], name: str) -> tuple[int, str]:
    order = list(known)
    return (order.index(name), "") if name in known else (len(order), name)


def _state(cell: Cell) -> tuple[int, str]:
    return (STATES.index(cell.state), "") if cell.state in STATES else (len(STATES), cell.state)
