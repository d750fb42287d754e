"""What is fetched ahead, by configuration; and docs/cold-start.md says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nearfs.config import layers, prefetch
from nearfs.errors import InvalidInput

PROJECT = Path(__file__).resolve().parent.parent.parent
PAGE = (PROJECT / "docs" / "cold-start.md").read_text("utf-8")
MECHANISMS = ("neighbours", "catalogs", "readahead")


def settings_of(**parameters: str) -> layers.Settings:
    settings = layers.Settings("lab.example.org", root="/nonexistent", environment={})
    for name, value in parameters.items():
        settings.set(name, value, "/etc/x.conf")
    return settings


def test_everything_is_on_by_default() -> None:
    found = prefetch.read(settings_of())
    assert (found["budget_bytes"], found["requests"]) == (2 << 20, 48)
    assert (found["neighbours"], found["catalogs"], found["readahead"]) == (True, True, True)


@pytest.mark.parametrize("switch", [{"NEARFS_PREFETCH": "no"}, {"CVMFS_SERVER_CACHE_MODE": "yes"}])
def test_one_parameter_is_enough_to_switch_off(switch: dict[str, str]) -> None:
    found = prefetch.read(settings_of(**switch, NEARFS_PREFETCH_NEIGHBOURS="yes"))
    assert not (found["neighbours"] or found["catalogs"] or found["readahead"])


@pytest.mark.parametrize("name", MECHANISMS)
def test_each_mechanism_has_its_switch(name: str) -> None:
    found = prefetch.read(settings_of(**{f"NEARFS_PREFETCH_{name.upper()}": "off"}))
    states = {"neighbours": found["neighbours"], "catalogs": found["catalogs"], "readahead": found["readahead"]}
    assert states == {other: other != name for other in MECHANISMS}


@pytest.mark.parametrize(
    ("name", "value"), [("BUDGET", "-1"), ("BUDGET", "much"), ("REQUESTS", "0"), ("REQUESTS", "64")]
)
def test_a_limit_that_cannot_be_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"NEARFS_PREFETCH_{name}={value} in /etc/x.conf"):
        prefetch.read(settings_of(**{f"NEARFS_PREFETCH_{name}": value}))


def test_the_page_names_the_parameters_of_the_code_with_their_defaults() -> None:
    stated = dict(re.findall(r"^\| `(NEARFS_PREFETCH\w*)` \| `(\w+)` \|", PAGE, re.MULTILINE))
    code = Path(prefetch.__file__).read_text("utf-8")
    assert stated.keys() == set(re.findall(r'"(NEARFS_PREFETCH\w*)"', code))
    assert stated["NEARFS_PREFETCH_BUDGET"] == str(prefetch.DEFAULT_BUDGET_MIB)
    assert stated["NEARFS_PREFETCH_REQUESTS"] == str(prefetch.DEFAULT_REQUESTS)
