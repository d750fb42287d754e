"""The status page as a browser shows it: a real Chromium, wide and on a telephone, light and dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import browser, storages
from tests.support.browser import Browser, browsing
from tests.support.serving import Server, serving
from tests.support.storages import DAY_S, HOUR_S

LONG = "a-repository-with-a-rather-long-name.department.example.org"
# Luminance and contrast as WCAG 2 defines them; each text against the nearest ground that is painted below it.
_CONTRASTS = """
const parsed = colour => colour.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
  .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = element => {
  for (let at = element; at; at = at.parentElement) {
    const colour = parsed(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), owner = walker.currentNode.parentElement;
  if (!text) continue;
  const [a, b] = [light(parsed(getComputedStyle(owner).color)), light(ground(owner))];
  found.push([text, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
}
return found;
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Returns a server with a repository in each mood."""
    folder = tmp_path_factory.mktemp("page")
    root = folder / "srv"
    storages.write(root, "good.example.org", revision=7, snapshot_s=600)
    storages.write(root, "uneasy.example.org", revision=3, snapshot_s=30 * HOUR_S)
    storages.write(root, LONG, revision=1, master=True, whitelist_s=-3 * DAY_S)
    with serving(root, folder / "scratch") as running:
        yield running


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Returns a window of a real browser."""
    if lack := browser.missing():
        pytest.skip(lack)
    with browsing(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 375, 1200])
def test_everything_is_readable_at_any_width_by_day_and_by_night(
    window: Browser, server: Server, width: int, scheme: str
) -> None:
    window.show(f"{server.url}/status", width=width, height=800, scheme=scheme)
    assert window.complaints() == [], "no style is refused, no file is missing"
    assert window.ask("return document.documentElement.scrollWidth") <= width, "nobody scrolls sideways"
    contrasts = window.ask(_CONTRASTS)
    assert len(contrasts) > 50
    assert [pair for pair in contrasts if pair[1] < 4.5] == [], "WCAG 2, level AA"
    ground = window.ask("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(244, 246, 249)" if scheme == "light" else "rgb(17, 22, 29)")


def test_a_reader_of_the_page_finds_the_state_of_each_repository(window: Browser, server: Server) -> None:
    window.show(f"{server.url}/", width=1200, height=800, scheme="light")
    assert window.driver.title == "✕ CernVM-FS repositories"
    assert window.ask("return document.querySelector('[role=status]').innerText") == (
        "1 of 3 repositories is failing, 1 more needs attention."
    )
    cards = window.ask("return [...document.querySelectorAll('article')].map(card => card.innerText)")
    assert [card.split("\n")[0] for card in cards] == [LONG, "uneasy.example.org", "good.example.org"]
    assert [word in card for word, card in zip(("Failing", "Attention", "Healthy"), cards, strict=True)] == [True] * 3
    assert "expired 3 days ago" in cards[0]
    assert window.ask("return document.querySelectorAll('h1').length") == 1
    assert window.ask("return document.documentElement.lang") == "en"
    assert "last hour" in window.ask("return document.querySelector('figure svg').getAttribute('aria-label')")


def test_the_page_asks_for_nothing_but_itself(window: Browser, server: Server) -> None:
    window.show(f"{server.url}/status", width=800, height=600, scheme="light")
    assert window.ask("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
    window.driver.find_element("css selector", "summary").click()
    assert window.ask("return document.querySelector('details').open") is True
    assert window.ask("return document.scripts.length") == 0


def test_a_picture_can_be_taken(window: Browser, server: Server, tmp_path: Path) -> None:
    window.show(f"{server.url}/status", width=1200, height=800, scheme="dark")
    window.save(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
