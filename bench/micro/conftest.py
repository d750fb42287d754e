"""What a run of the micro benchmarks needs: an optimised engine, and one workload for all. pytest's main thread."""

import os
from pathlib import Path

import pytest

from bench.micro.workload import Workload
from nearfs import _native

SCALE = "NEARFS_MICRO_SCALE"
"""The environment variable that makes every content so many times smaller: a test of the suite wants no figures."""


def pytest_configure() -> None:
    """Refuses a debug build, whose figures would mean nothing."""
    if _native.is_debug_build():
        raise pytest.UsageError("the engine is a debug build: run `make build` first")


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """Returns the workload of the run."""
    home: Path = tmp_path_factory.mktemp("micro")
    scale = max(1, int(os.environ.get(SCALE, "1")))
    return Workload(home, directories=max(1, 200 // scale), files=max(1, 50 // scale), scale=scale)
