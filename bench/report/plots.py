"""The plots of a result: cold time over RTT, stalls, latencies of system calls; each as SVG and PNG.

Owns what a plot shows and how it looks; the only module that imports matplotlib. The same result gives the same bytes:
no date, a fixed salt for ids, the font that comes with matplotlib as paths. Pictures have a white ground of their own,
so that they read the same on light and on dark pages; a contender is told by colour, dash and marker together, in
colours that the colour-blind tell apart. Main thread only (matplotlib's global state is not touched, its caches are).
"""

import io
import math
from collections import Counter
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from bench.harness.figures import TALK, Board, contender_title, scenario_title, stall_text
from bench.report.series import apart, cold_points, commonest_rate, histograms, percentile, stalls
from bench.report.tables import headline_line

NAMES = ("cold-over-rtt", "stalls", "latencies")

_INK, _FAINT, _GRID = "#1a1a1a", "#5c5c5c", "#e2e2e2"
# Okabe and Ito's colours; a family has one colour, its members differ in dash and marker.
_STYLES: dict[str, dict[str, Any]] = {
    "nfs3": {"color": "#D55E00", "marker": "s"},
    "nfs3-tuned": {"color": "#D55E00", "marker": "s", "linestyle": (0, (4, 2)), "markerfacecolor": "white"},
    "nfs4": {"color": "#E69F00", "marker": "D"},
    "nfs4-tuned": {"color": "#E69F00", "marker": "D", "linestyle": (0, (4, 2)), "markerfacecolor": "white"},
    "reference": {"color": "#CC79A7", "marker": "^"},
    "nearfs": {"color": "#0072B2", "marker": "o", "linewidth": 2.6},
    "nearfs-nginx": {"color": "#0072B2", "marker": "v", "linestyle": (0, (4, 2)), "markerfacecolor": "white"},
    "nearfs-squid": {"color": "#0072B2", "marker": "P", "linestyle": (0, (1, 1.5)), "markerfacecolor": "white"},
    "portable": {"color": "#009E73", "marker": "X"},
    "guest-nearfs": {"color": "#56B4E9", "marker": "h"},
    "guest-local": {"color": "#7a7a7a", "linestyle": (0, (1, 2))},
    "squashfuse": {"color": "#7a7a7a", "linestyle": (0, (6, 2, 1, 2))},
    "local": {"color": "#1a1a1a", "linestyle": (0, (6, 2))},
}
_UNKNOWN_STYLE: dict[str, Any] = {"color": "#8c6d1f", "marker": "*"}
_MAX_LATENCY_PANELS = 6
_BINS_PER_DECADE = 16
_SETTINGS: Any = {
    "svg.hashsalt": "nearfs",
    "svg.fonttype": "path",
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "path.simplify": False,
}


def draw(board: Board) -> dict[str, dict[str, bytes]]:
    """Returns every plot for which there are figures: name -> {"svg": ..., "png": ...}."""
    made = {}
    # What a user's own matplotlibrc says must not show in a report.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        for name, drawn in zip(NAMES, (_cold_over_rtt(board), _stalls(board), _latencies(board)), strict=True):
            if drawn is not None:
                made[name] = {"svg": _svg(drawn), "png": _png(drawn)}
    return made


def _cold_over_rtt(board: Board) -> Figure | None:
    """Draws seconds with empty caches over RTT, a panel for each program of the talk, at the commonest rate."""
    scenarios = [scenario for scenario in TALK if any(cell.state == "cold" for cell in board.cells(scenario))]
    along = commonest_rate(board.lines(*scenarios)) if scenarios else []
    if not along:
        return None
    figure = Figure(figsize=(5.4 * len(scenarios), 4.6), layout="constrained")
    panels = figure.subplots(1, len(scenarios), squeeze=False)[0]
    for panel, scenario in zip(panels, scenarios, strict=True):
        ends = []
        for contender in board.contenders(scenario):
            points = cold_points(board, scenario, contender, along)
            if points:
                panel.plot(*zip(*points, strict=True), **_style(contender))
                ends.append((*points[-1], contender))
        _label_ends(panel, ends)
        panel.set_title(f"{scenario_title(scenario)}, empty caches")
        panel.set_xlabel("round trip time of the line (ms)")
        panel.set_xticks([line.rtt_ms for line in along], [f"{line.rtt_ms:g}" for line in along])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(_plain_number))
        panel.yaxis.set_minor_formatter(FuncFormatter(lambda _value, _at: ""))
    panels[0].set_ylabel("seconds (log scale)")
    figure.suptitle(
        f"Time with nothing cached, at {along[0].rate_mbit:g} Mbit/s; medians", x=0.01, ha="left", fontsize=11.5
    )
    return figure


def _label_ends(panel: Axes, ends: list[tuple[float, float, str]]) -> None:
    """Names each curve at its right end (RTT, seconds, contender), pushed apart where curves end together."""
    if not ends:
        return
    ends.sort(key=lambda end: (end[1], end[2]))
    panel.set_yscale("log")
    bottom, top = map(math.log10, panel.get_ylim())
    heights = apart([math.log10(seconds) for _, seconds, _ in ends], (top - bottom) * 0.052)
    for (rtt, seconds, contender), height in zip(ends, heights, strict=True):
        color = _style(contender)["color"]
        panel.annotate(
            contender_title(contender),
            xy=(rtt, seconds),
            xytext=(panel.get_xlim()[1] * 1.03, 10**height),
            va="center",
            fontsize=8.5,
            color=_darker(color),
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 4,
            },
        )


def _stalls(board: Board) -> Figure | None:
    """Draws the stalls over the line of the headline, a panel for each program of the talk."""
    line = headline_line(board)
    if line is None:
        return None
    found = {scenario: bars for scenario in TALK if (bars := stalls(board, scenario, line))}
    if not found:
        return None
    rows = max(map(len, found.values()))
    figure = Figure(figsize=(5.4 * len(found), 1.3 + 0.34 * rows), layout="constrained")
    for panel, (scenario, bars) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        most = max(10.0, *(stall for _, stall in bars))
        for at, (contender, stall) in enumerate(bars):
            style = _style(contender)
            hatch = "////" if style.get("markerfacecolor") else None
            panel.barh(
                at, max(stall, 1), height=0.62, color=style["color"], hatch=hatch, edgecolor="white", linewidth=0
            )
            panel.text(max(stall, 1) * 1.12, at, stall_text(stall), va="center", fontsize=8.5)
        panel.set_xscale("log")
        panel.set_xlim(1, most * 4)
        panel.set_yticks(range(len(bars)), [contender_title(contender) for contender, _ in bars])
        panel.tick_params(axis="y", length=0)
        panel.grid(visible=False, axis="y")
        panel.invert_yaxis()
        panel.xaxis.set_major_formatter(FuncFormatter(_plain_number))
        panel.set_title(scenario_title(scenario))
        panel.set_xlabel("stall in round trips: (cold - hot) / RTT (log scale)")
    figure.suptitle(f"What waiting costs, over a line of {line}", x=0.01, ha="left", fontsize=11.5)
    return figure


def _latencies(board: Board) -> Figure | None:
    """Draws the latency histograms of system calls, a panel for each scenario and state, a row for each contender."""
    panels = [
        (f"{scenario_title(scenario)}, {state}", rows)
        for scenario in board.scenarios()
        for state in ("warm", "hot")
        if (rows := histograms(board, scenario, state))
    ][:_MAX_LATENCY_PANELS]
    if not panels:
        return None
    columns = min(2, len(panels))
    depth = math.ceil(len(panels) / columns)
    tallest = max(len(rows) for _, rows in panels)
    figure = Figure(figsize=(5.4 * columns, 0.6 + depth * (0.95 + 0.42 * tallest)), layout="constrained")
    # One scale for all: what is left of something else is faster, wherever it stands.
    places = figure.subplots(depth, columns, squeeze=False, sharex=True).flatten()
    for place in places[len(panels) :]:
        place.set_visible(False)
    for place, (title, rows) in zip(places, panels, strict=False):
        for at, (contender, histogram) in enumerate(rows):
            _ridge(place, at, _style(contender)["color"], histogram)
        place.set_xscale("log")
        place.set_yticks(range(len(rows)), [contender_title(contender) for contender, _ in rows])
        place.tick_params(axis="y", length=0)
        place.tick_params(axis="x", labelbottom=True)
        place.set_ylim(len(rows) - 0.75, -0.95)
        place.xaxis.set_major_formatter(FuncFormatter(_micros))
        place.set_title(title)
    figure.suptitle(
        "Latency of one system call (log scale); bars inside: median and 99th percentile",
        x=0.01,
        ha="left",
        fontsize=11.5,
    )
    return figure


def _ridge(panel: Axes, at: int, color: str, histogram: Counter[float]) -> None:
    """Draws one histogram on a base line of its own; heights are shares of the calls, the tallest bin fills the row."""
    bins: dict[int, float] = {}
    for bound, count in histogram.items():
        number = math.floor(math.log10(max(bound, 0.01)) * _BINS_PER_DECADE)
        bins[number] = bins.get(number, 0) + count
    tallest = max(bins.values())
    lefts = [10 ** (number / _BINS_PER_DECADE) for number in bins]
    widths = [10 ** ((number + 1) / _BINS_PER_DECADE) - left for number, left in zip(bins, lefts, strict=True)]
    heights = [-0.82 * count / tallest for count in bins.values()]
    panel.bar(lefts, heights, widths, bottom=at, align="edge", color=color, linewidth=0, alpha=0.75)
    for share, reach in ((0.5, 0.82), (0.99, 0.45)):
        where = percentile(histogram, share)
        panel.plot([where, where], [at, at - reach], color=_INK, linewidth=1.1)


def _style(contender: str) -> dict[str, Any]:
    return {"linewidth": 1.7, "markersize": 5.5, **_STYLES.get(contender, _UNKNOWN_STYLE)}


def _darker(color: str) -> str:
    """Returns a colour that text can have on white."""
    parts = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
    return "#" + "".join(f"{int(part * 0.72):02x}" for part in parts)


def _plain_number(value: float, _at: int | None) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _micros(value: float, _at: int | None) -> str:
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} µs"


def _svg(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    # A line's end in a text file is no place for spaces.
    return b"\n".join(line.rstrip() for line in out.getvalue().split(b"\n"))


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
    return out.getvalue()
