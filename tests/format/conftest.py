"""Fixtures: the golden repositories, unpacked once, and keys for forged ones."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from .forge import Keys

PROJECT = Path(__file__).parents[2]
GOLDEN_NAMES = ("golden.example.org", "golden-shake.example.org")


@dataclass(frozen=True)
class Golden:
    """A golden repository: its name, unpacked directory, folder with listings, and master public key."""

    fqrn: str
    root: Path
    folder: Path
    public_pem: bytes


@pytest.fixture(scope="session", params=GOLDEN_NAMES)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Unpacks one golden repository; skips where the golden folder is absent."""
    fqrn = str(request.param)
    base = Path(os.environ.get("NEARFS_GOLDEN", PROJECT / ".." / "shared" / "golden"))
    folder = base / fqrn
    if not (folder / "repository.tar.xz").is_file():
        pytest.skip(f"no golden repositories in {base} (set NEARFS_GOLDEN)")
    target = tmp_path_factory.mktemp(fqrn)
    with tarfile.open(folder / "repository.tar.xz") as archive:
        archive.extractall(target, filter="data")
    return Golden(fqrn, target / fqrn, folder, (folder / f"{fqrn}.pub").read_bytes())


@pytest.fixture(scope="session")
def keys() -> Keys:
    """Keys for all forged repositories of a run."""
    return Keys.generate()
