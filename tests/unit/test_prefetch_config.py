"""What is fetched ahead, by configuration; and docs/cold-start.md says the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nearfs.config import layers, prefetch
from nearfs.errors import InvalidInput

if TYPE_CHECKING:
    from nearfs.records import Prefetch

PROJECT = Path(__file__).resolve().parent.parent.parent
PAGE = (PROJECT / "docs" / "cold-start.md").read_text("utf-8")
MECHANISMS = {
    "neighbours": "NEARFS_PREFETCH_NEIGHBOURS",
    "catalogs": "NEARFS_PREFETCH_CATALOGS",
    "readahead": "NEARFS_PREFETCH_READAHEAD",
    "traces": "NEARFS_PREFETCH_TRACES",
    "packs": "NEARFS_PREFETCH_PACKS",
    "bundles": "CVMFS_PREFETCH_FILEBUNDLES",
}


def settings_of(**parameters: str) -> layers.Settings:
    settings = layers.Settings("lab.example.org", root="/nonexistent", environment={})
    for name, value in parameters.items():
        settings.set(name, value, "/etc/x.conf")
    return settings


def states(found: Prefetch) -> dict[str, bool]:
    """Returns what is on."""
    return {name: value for name, value in found.items() if isinstance(value, bool)}


def test_everything_is_on_by_default() -> None:
    found = prefetch.read(settings_of())
    assert (found["budget_bytes"], found["requests"], found["bundle_requests"]) == (2 << 20, 192, 192)
    assert states(found) == dict.fromkeys(MECHANISMS, True)


@pytest.mark.parametrize("switch", [{"NEARFS_PREFETCH": "no"}, {"CVMFS_SERVER_CACHE_MODE": "yes"}])
def test_one_parameter_is_enough_to_switch_off(switch: dict[str, str]) -> None:
    found = prefetch.read(settings_of(**switch, NEARFS_PREFETCH_NEIGHBOURS="yes"))
    assert not any(states(found).values())


@pytest.mark.parametrize("name", MECHANISMS)
def test_each_mechanism_has_its_switch(name: str) -> None:
    found = prefetch.read(settings_of(**{MECHANISMS[name]: "off"}))
    assert states(found) == {other: other != name for other in MECHANISMS}


@pytest.mark.parametrize(
    ("name", "value"), [("BUDGET", "-1"), ("BUDGET", "much"), ("REQUESTS", "0"), ("REQUESTS", "193")]
)
def test_a_limit_that_cannot_be_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"NEARFS_PREFETCH_{name}={value} in /etc/x.conf"):
        prefetch.read(settings_of(**{f"NEARFS_PREFETCH_{name}": value}))


def test_bundles_have_what_guesses_have_unless_it_is_stated() -> None:
    assert prefetch.read(settings_of(NEARFS_PREFETCH_REQUESTS="20"))["bundle_requests"] == 20
    assert prefetch.read(settings_of(CVMFS_BUNDLE_POOL_SIZE="8"))["bundle_requests"] == 8
    with pytest.raises(InvalidInput, match=r"CVMFS_BUNDLE_POOL_SIZE=none in /etc/x\.conf"):
        prefetch.read(settings_of(CVMFS_BUNDLE_POOL_SIZE="none"))


def test_the_page_names_the_parameters_of_the_code_with_their_defaults() -> None:
    stated = dict(re.findall(r"^\| `((?:NEARFS|CVMFS)_\w+)` \| `(\w+)` \|", PAGE, re.MULTILINE))
    code = Path(prefetch.__file__).read_text("utf-8")
    assert stated.keys() == set(re.findall(r'"((?:NEARFS|CVMFS)_PREFETCH\w*)"', code))
    assert stated["NEARFS_PREFETCH_BUDGET"] == str(prefetch.DEFAULT_BUDGET_MIB)
    assert stated["NEARFS_PREFETCH_REQUESTS"] == str(prefetch.DEFAULT_REQUESTS)
