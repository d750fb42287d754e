"""What the plots show, as numbers: curves, bars, histograms.

Owns the choice of the cells; draws nothing and needs no plotting library. Single-threaded.
"""

from collections import Counter

from bench.harness.figures import Board, line_rank
from bench.harness.result import Cell, LineKey
from bench.report.tables import headline_line


def commonest_rate(lines: list[LineKey]) -> list[LineKey]:
    """Returns the lossless lines of the rate at which most RTTs were measured, the faster of two, by RTT."""
    lossless = [line for line in lines if line.loss == 0]
    rates = Counter(line.rate_mbit for line in lossless)
    rate = max(rates, key=lambda rate: (rates[rate], rate), default=None)
    return [line for line in lossless if line.rate_mbit == rate]


def cold_points(board: Board, scenario: str, contender: str, along: list[LineKey]) -> list[tuple[float, float]]:
    """Returns (RTT, median) over the lines; what crosses no line stands at the same height over all of them."""
    points = []
    for line in along:
        cell = board.near(scenario, contender, "cold", line)
        seconds = cell.median() if cell is not None else None
        if seconds is not None and seconds > 0:
            points.append((line.rtt_ms, seconds))
    return points


def stalls(board: Board, scenario: str, line: LineKey) -> list[tuple[str, float]]:
    """Returns each contender's stall in round trips, of those that have one."""
    found = [(contender, board.stall(scenario, contender, line)) for contender in board.contenders(scenario)]
    return [(contender, stall) for contender, stall in found if stall is not None]


def percentile(histogram: Counter[float], share: float) -> float:
    """Returns the upper bound below which this share of a histogram lies."""
    wanted = share * sum(histogram.values())
    passed = 0.0
    for bound, count in sorted(histogram.items()):
        passed += count
        if passed >= wanted:
            return bound
    return max(histogram)


def histograms(board: Board, scenario: str, state: str) -> list[tuple[str, Counter[float]]]:
    """Returns each contender's histogram over all its samples, over the line that is nearest to the headline's."""
    found = []
    wanted = headline_line(board)
    for contender in board.contenders(scenario):
        cells = [c for c in board.cells(scenario) if c.contender == contender and c.state == state and _calls(c)]
        if cells:
            found.append((contender, _calls(min(cells, key=lambda cell: _away(cell.line, wanted)))))
    return found


def _away(line: LineKey | None, wanted: LineKey | None) -> tuple[bool, tuple[bool, float, float, float]]:
    return line != wanted, line_rank(line)


def _calls(cell: Cell) -> Counter[float]:
    """Returns the histograms of a cell's samples as one."""
    counts: Counter[float] = Counter()
    for sample in cell.samples:
        for bound, count in sample.get("histogram") or []:
            if count > 0:
                counts[bound] += count
    return counts


def apart(wished: list[float], step: float) -> list[float]:
    """Returns the places nearest to the wished ones (ascending) that lie at least `step` apart.

    Places that are pushed together form a block around the mean of what they wished.
    """
    blocks: list[tuple[float, int]] = []  # mean of (wish - place in line x step), and of how many
    for at, wish in enumerate(wished):
        mean, size = wish - at * step, 1
        while blocks and blocks[-1][0] > mean:
            before, many = blocks.pop()
            mean, size = (before * many + mean * size) / (many + size), many + size
        blocks.append((mean, size))
    means = [mean for mean, size in blocks for _ in range(size)]
    return [mean + at * step for at, mean in enumerate(means)]
