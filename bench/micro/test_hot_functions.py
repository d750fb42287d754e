"""Times both sides of each comparison, one after the other.

Results: `--benchmark-json FILE`, then `python -m bench.micro_report FILE`. Main thread only.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.pairs import PAIRS
from bench.micro.workload import Workload


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_hot_function(benchmark: BenchmarkFixture, workload: Workload, name: str, side: str) -> None:
    """Times one side; the other one has to return the same."""
    pair = PAIRS[name](workload)
    benchmark.group = name
    benchmark.extra_info.update(
        side=side, alternative=pair.alternative, operations=pair.operations, content_bytes=pair.content_bytes
    )
    ours, theirs = pair.ours, pair.theirs
    answer = benchmark(ours if side == "ours" else theirs)
    if pair.same(answer) != pair.same(theirs() if side == "ours" else ours()):
        pytest.fail(f"{name}: the two sides answer differently")
