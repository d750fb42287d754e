"""Proxy discovery without a network: what answers mean, and how they go into a list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfs.client import discovery


@pytest.mark.parametrize(
    ("proxies", "found", "expected"),
    [
        ("auto", ["http://a:1"], "http://a:1"),
        ("auto;DIRECT", ["http://a:1", "http://b:2"], "http://a:1;http://b:2;DIRECT"),
        ("p|auto;q", ["http://a:1", "DIRECT"], "p|http://a:1;DIRECT;q"),
        ("auto;DIRECT", [], "DIRECT"),
        ("p|auto", [], "p"),
        ("auto", [], ""),
        ("p;autonomous|q", ["http://a:1"], "p;autonomous|q"),
    ],
)
def test_what_is_found_stands_for_the_word(proxies: str, found: list[str], expected: str) -> None:
    assert discovery.compose(proxies, found) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("PROXY a.example.org:3128; DIRECT", ["http://a.example.org:3128", "DIRECT"]),
        (" proxy [fd00::1]:80 ;;direct ", ["http://[fd00::1]:80", "DIRECT"]),
        ("SOCKS s:1080; PROXY b:2", ["http://b:2"]),
        ("PROXY http://a:1; PROXY a; PROXY a:0; PROXY a:99999; PROXY a b:1; PROXY a:1|b:2; HTTPS a:1", []),
        ("", []),
        ("undefined", []),
    ],
)
def test_answers_are_read_strictly(answer: str, expected: list[str]) -> None:
    assert discovery.proxies_of(answer) == expected


@given(st.text())
def test_any_answer_gives_proxies_of_one_form(answer: str) -> None:
    for proxy in discovery.proxies_of(answer):
        assert proxy == "DIRECT" or proxy.startswith("http://")
        assert not set(proxy) & set("|; \n")


def test_a_list_without_the_word_stays_as_it_is() -> None:
    assert discovery.resolve("p | q;DIRECT", [], ["http://nobody.example.org/"], None) == "p | q;DIRECT"
