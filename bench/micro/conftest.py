"""What a run of the micro benchmarks needs: an optimised engine, and one workload for all. pytest's main thread."""

from pathlib import Path

import pytest

from bench.micro.workload import Workload
from nearfs import _native


def pytest_configure() -> None:
    """Refuses a debug build, whose figures would mean nothing."""
    if _native.is_debug_build():
        raise pytest.UsageError("the engine is a debug build: run `make build` first")


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """Returns the workload of the run."""
    home: Path = tmp_path_factory.mktemp("micro")
    return Workload(home)
