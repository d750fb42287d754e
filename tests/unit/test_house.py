"""What stands in two places of the project's own files is the same in both."""

import re
import tomllib
from pathlib import Path
from typing import Any

import nearfs

PROJECT = Path(__file__).resolve().parents[2]


def parsed(name: str) -> dict[str, Any]:
    return tomllib.loads((PROJECT / name).read_text("utf-8"))


def names(requirements: list[str]) -> set[str]:
    """Returns the normalised package names of requirement lines."""
    lines = [line.split("#")[0].strip() for line in requirements]
    return {re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", line)[0]).lower() for line in lines if line}


def test_both_halves_have_one_version() -> None:
    assert nearfs.__version__ == parsed("Cargo.toml")["workspace"]["package"]["version"]


def test_the_environment_holds_what_the_package_and_its_groups_ask_for() -> None:
    project = parsed("pyproject.toml")["project"]
    wanted = project["dependencies"] + [line for group in project["optional-dependencies"].values() for line in group]
    held = names((PROJECT / "ci/requirements.txt").read_text("utf-8").splitlines())
    assert held == names(wanted) | {"maturin"}


def test_every_required_package_is_pinned() -> None:
    lines = (PROJECT / "ci/constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line) for line in pins)
    assert names((PROJECT / "ci/requirements.txt").read_text("utf-8").splitlines()) <= names(pins)
