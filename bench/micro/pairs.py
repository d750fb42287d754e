"""The table of all comparisons: a name, and what makes its two sides from a workload."""

from collections.abc import Callable, Mapping

from bench.micro import caches, catalogs, content
from bench.micro.workload import Pair, Workload

PAIRS: Mapping[str, Callable[[Workload], Pair]] = {**content.PAIRS, **catalogs.PAIRS, **caches.PAIRS}
