"""A real Chromium without a screen, driven by its own driver, both from Debian.

Owns their start and end. Called from the test's own thread.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.support import processes

PAGE_LIMIT_S = 60.0


def missing() -> str | None:
    """Returns why no browser can be started here."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(lacking)} not installed (ci/setup lab does it)" if lacking else None


class Browser:
    """A window; sizes are in CSS pixels."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def show(self, url: str, *, width: int, height: int, scheme: str) -> None:
        """Opens a page in a window of a size, for somebody who prefers `light` or `dark`."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        preference = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)
        self.driver.get(url)

    def ask(self, script: str, *arguments: object) -> Any:
        """Returns what a function body returns in the page."""
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """Returns what the browser itself complained of since the last call, such as refused styles."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def save(self, path: Path) -> None:
        """Writes what the window shows, as PNG, over its whole length."""
        height = self.ask("return document.documentElement.scrollHeight")
        width = self.ask("return window.innerWidth")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        assert self.driver.save_screenshot(str(path))


@contextlib.contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """Starts a browser with a profile of its own, and ends it."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    # Neither a sandbox, which root may not have, nor /dev/shm, which is small in containers; nobody is called home.
    for word in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{word}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(str(shutil.which("chromedriver")), env=processes.marked_environment())
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_page_load_timeout(PAGE_LIMIT_S)
        yield Browser(driver)
    finally:
        driver.quit()
