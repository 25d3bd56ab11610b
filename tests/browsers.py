"""A headless Chromium, and what a test of a page needs of it."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
         "--enable-unsafe-swiftshader", "--window-size=1400,1000", "--disable-background-networking",
         "--no-first-run")
PATIENCE = 60  # seconds: the pictures are drawn by the processor, which others may share


def chromium() -> Any:
    """A driver of a new headless Chromium; close it with `quit()`.  Skips the test if there is no browser, or fails it
    if SPARSENET_REQUIRE_BROWSER is set."""
    webdriver = pytest.importorskip("selenium.webdriver",
                                    reason="selenium is not installed: pip install 'sparsenet[test]'")
    from selenium.webdriver.chrome.service import Service

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        if os.environ.get("SPARSENET_REQUIRE_BROWSER"):
            pytest.fail("SPARSENET_REQUIRE_BROWSER is set, and there is no chromium with chromedriver")
        pytest.skip("no browser: install Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


def wait(driver: Any, condition: Callable[[], Any]) -> Any:
    """The result of the condition, once that is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition())


def errors(driver: Any) -> list[str]:
    """The errors on the console since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def emulate(driver: Any, width: int, height: int = 800, touch: bool = False) -> None:
    """Make the screen this wide, in CSS pixels, that of a phone with `touch`."""
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                           {"width": width, "height": height, "deviceScaleFactor": 2 if touch else 1, "mobile": touch})
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})


def drop(driver: Any, path: Path) -> None:
    """Drop a file on the page, as from a file manager."""
    driver.execute_script("""
        const [name, text] = arguments;
        const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], name));
        for (const kind of ["dragover", "drop"]) {
          document.body.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
        }
        """, path.name, base64.b64encode(path.read_bytes()).decode())
