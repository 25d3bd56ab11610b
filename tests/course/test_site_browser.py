"""The site that docs/build_site.py made, in a headless browser: a search and a switch of colours that work from a file,
nothing wider than the screen.

SPARSENET_SITE names the site's folder (default: build/site); without it and without a site the tests are skipped.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browsers import chromium, emulate, errors, wait

pytest.importorskip("selenium", reason="selenium is not installed: pip install 'sparsenet[test]'")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

pytestmark = pytest.mark.extra("docs")

SITE = Path(os.environ.get("SPARSENET_SITE") or Path(__file__).parents[2] / "build" / "site")
# One page of each kind.
SAMPLE = ("index", "overview", "course/index", "course/teaching", "course/01_sparse_data", "course/03_rulebook",
          "course/08_cuda_kernel", "course/10_retrieval", "puzzles", "commands", "search_page", "inspector_page",
          "performance", "results/experiments", "api/inspect", "kernels/convolution", "contributing", "404",
          "inspected_chair")
SCREEN = 1280


@pytest.fixture(scope="module")
def site():
    """The address of a server of the site: the page for what is not found has addresses from the root."""
    if not (SITE / "index.html").is_file():
        if os.environ.get("SPARSENET_SITE"):
            pytest.fail(f"SPARSENET_SITE is {SITE}, which has no index.html")
        pytest.skip("there is no site: python docs/build_site.py")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join(10)


@pytest.fixture
def driver(browser):
    """A browser whose console has no error in the end."""
    emulate(browser, SCREEN)
    prefer(browser, "light")
    errors(browser)
    yield browser
    assert errors(browser) == []


@pytest.fixture(scope="module")
def browser(site):
    found = chromium()
    yield found
    found.quit()


def prefer(driver, scheme):
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                           {"features": [{"name": "prefers-color-scheme", "value": scheme}]})


def opened(driver, address):
    driver.get(address)
    if "inspected_chair" in address:
        wait(driver, lambda: driver.execute_script("return document.documentElement.dataset.ready === 'true'"))


def scheme_of(driver):
    return driver.find_element(By.TAG_NAME, "body").get_attribute("data-md-color-scheme")


@pytest.mark.parametrize("width", [360, SCREEN])
def test_nothing_is_wider_than_the_screen(driver, site, width):
    emulate(driver, width, 844, touch=width < 500)
    for page in SAMPLE:
        opened(driver, f"{site}{page}.html")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width, page


def test_pictures_are_there_and_told_in_words(driver, site):
    for page in SAMPLE:
        opened(driver, f"{site}{page}.html")
        driver.execute_script("for (const image of document.images) image.loading = 'eager'")
        wait(driver, lambda: driver.execute_script("return [...document.images].every((image) => image.complete)"))
        wrong = driver.execute_script("return [...document.images].filter((image) => !image.naturalWidth || "
                                      "!image.alt.trim()).map((image) => image.outerHTML.slice(0, 120))")
        assert wrong == [], page


def test_the_colours_can_be_switched_and_stay_so(driver, site):
    opened(driver, (SITE / "index.html").as_uri())
    seen = []
    for _ in range(5):
        (switch,) = [label for label in driver.find_elements(By.CSS_SELECTOR, "[data-md-component=palette] label")
                     if label.is_displayed()]
        switch.click()
        seen.append(scheme_of(driver))
    assert seen == ["default", "slate", "default", "default", "slate"]  # light, dark, the system's, light, dark
    opened(driver, (SITE / "course" / "03_rulebook.html").as_uri())
    assert scheme_of(driver) == "slate"
    driver.execute_script("localStorage.clear(); sessionStorage.clear()")


def test_the_search_works_from_a_file(driver, site):
    opened(driver, (SITE / "course" / "index.html").as_uri())
    driver.find_element(By.CSS_SELECTOR, ".md-search__button").click()
    wait(driver, lambda: results(driver) is not None)
    ActionChains(driver).send_keys("rulebook").perform()
    wait(driver, lambda: results(driver))
    assert any(address.endswith("/kernels/rulebook.html") for address in results(driver))
    assert all(address.startswith(SITE.as_uri()) for address in results(driver))
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    wait(driver, lambda: driver.current_url.startswith(SITE.as_uri()) and "course/index" not in driver.current_url)
    asked = driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith(("file:", "data:", "blob:")) for name in asked)
    assert all("XMLHttpRequest" in error or "ERR_FAILED" in error for error in errors(driver))  # then it asks a script


def results(driver):
    """The addresses of the results in the search's dialog, None while it is not open."""
    return driver.execute_script("""
        const root = document.activeElement.shadowRoot;
        return root && [...root.querySelectorAll("[role=option]")].map((link) => link.href)""")
