"""The search page in a headless browser: drop, search, open, filter; by mouse, key and touch, on screens and phones."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import axe
import browsers
import pytest

from sparsenet.serve import export_page
from sparsenet.serve.running import started

pytestmark = pytest.mark.extra("serve")
pytest.importorskip("selenium", reason="selenium is not installed: pip install 'sparsenet[test]'")

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402


@pytest.fixture(scope="module")
def driver():
    browser = browsers.chromium()
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def address(gallery):
    with started(gallery) as server:
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.port}/"
        server.close()
        thread.join(10)


@pytest.fixture(scope="module")
def exported(gallery, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "page.html"
    export_page(path, gallery, progress=False)
    return path.as_uri()


@pytest.fixture
def page(driver, address):
    """The page as it opens, on a screen of 1400 pixels; there is no error on the console in the end."""
    browsers.emulate(driver, 1400, 1000)
    page = Page(driver, address)
    yield page
    assert browsers.errors(driver) == []


class Page:
    """The page as a user sees and operates it."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.get("about:blank")
        browsers.errors(driver)
        driver.get(address)
        self.wait(lambda: self.script("return document.documentElement.dataset.ready === 'true'"))

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def wait(self, condition):
        return browsers.wait(self.driver, condition)

    def at(self, name):
        return self.driver.find_element(By.ID, name)

    def cards(self):
        """(name, the other lines) of each card."""
        return [(item.find_element(By.CSS_SELECTOR, ".title").text,
                 [line.text for line in item.find_elements(By.CSS_SELECTOR, ".open > span:not(.title)")])
                for item in self.driver.find_elements(By.CSS_SELECTOR, "#cards li")]

    def heading(self):
        return self.at("results-title").text

    def status(self, part):
        """Wait until the status says something."""
        return self.wait(lambda: part in self.at("status").text)

    def pixels(self, selector="#view"):
        """How many pixels of a canvas are drawn, by their colour."""
        return self.script("""
            const canvas = document.querySelector(arguments[0]);
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let [drawn, sum] = [0, 0];
            for (let i = 0; i < data.length; i += 4) {
              if (data[i + 3]) { drawn += 1; sum += data[i] * 3 + data[i + 2] + (i % 8191); }
            }
            return { drawn, share: drawn / (canvas.width * canvas.height), sum };""", selector)

    def settled(self):
        """The pixels of the large picture, once it is drawn and stays as it is."""
        def at_rest():
            before = self.pixels()
            time.sleep(0.1)
            return before if before["share"] > 0.02 and self.pixels() == before else None

        return self.wait(at_rest)

    def search(self, path):
        browsers.drop(self.driver, path)
        self.wait(lambda: self.script("return location.hash") == "#mine")
        self.wait(lambda: self.heading() == f"Most similar to {path.name}")
        self.settled()


@pytest.fixture
def chair(meshes):
    return meshes.parent / "query.off"


def test_it_opens_with_all_shapes_and_asks_no_one_else(page, address, gallery):
    assert [name for name, _ in page.cards()] == gallery.names and page.heading() == "Shapes"
    assert "12 shapes, 1 could not be read, by modelnet40" in page.at("summary").text
    page.wait(lambda: page.script("return document.querySelectorAll('#cards canvas[data-ready]').length") == 12)
    assert 0.05 < page.pixels("#cards canvas")["share"] < 0.9
    asked = page.script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith((address, "data:")) for name in asked) and len(asked) > 8
    page.status("12 shapes.")


def test_a_dropped_mesh_is_searched_for(page, chair, gallery):
    page.search(chair)
    cards = page.cards()
    assert len(cards) == 12 and {name for name, _ in cards[:3]} == set(gallery.names[3:6])
    distances = [float(lines[1].removeprefix("distance ")) for _, lines in cards]
    assert distances == sorted(distances) and cards[0][1][0].startswith("chair ")
    rows = page.driver.find_elements(By.CSS_SELECTOR, "#classes tbody tr")
    assert len(rows) == 5 and rows[0].text.startswith("chair") and rows[0].text.endswith("%")
    assert page.pixels()["share"] > 0.05
    assert page.at("name").text == "query.off" and "OFF, z up" in page.at("facts").text
    assert page.driver.title == "Most similar to query.off - shapes"


def test_the_mesh_and_its_voxels_are_drawn(page, chair):
    page.search(chair)
    seen = {}
    for kind in ("voxels", "mesh", "both"):
        page.driver.find_element(By.CSS_SELECTOR, f"[name=draw][value={kind}]").click()
        page.wait(lambda: page.settled() not in seen.values())  # noqa: B023
        seen[kind] = page.settled()
    assert seen["mesh"]["drawn"] < seen["voxels"]["drawn"] and seen["both"]["drawn"] >= seen["voxels"]["drawn"]


def test_a_result_leads_to_its_own_results_and_back(page, chair, gallery):
    page.search(chair)
    first = page.driver.find_element(By.CSS_SELECTOR, "#cards .open")
    name = page.cards()[0][0]
    first.click()
    page.wait(lambda: page.heading() == f"Most similar to {name}")
    row = gallery.names.index(name)
    assert page.script("return location.hash") == f"#shape={row}"
    assert name not in [other for other, _ in page.cards()] and len(page.cards()) == 11
    page.wait(lambda: page.pixels()["share"] > 0.05)
    assert page.script("return document.activeElement.id") == "name"
    page.driver.back()
    page.wait(lambda: page.heading() == "Most similar to query.off")
    page.at("home").click()
    page.wait(lambda: page.heading() == "Shapes")


def test_an_address_leads_to_a_shape(page, address, gallery):
    page.driver.get(f"{address}#shape=7")
    page.wait(lambda: page.heading() == f"Most similar to {gallery.names[7]}")
    page.driver.get(f"{address}#shape=9999")
    page.wait(lambda: page.heading() == "Shapes")


def test_results_are_filtered_by_class_and_distance(page, chair):
    page.search(chair)
    classes = Select(page.at("class"))
    (option,) = [option for option in classes.options if option.text.startswith("chair (")]
    count = int(option.text.removeprefix("chair (").removesuffix(")"))
    classes.select_by_visible_text(option.text)
    cards = page.cards()
    assert len(cards) == count and all(lines[0].startswith("chair ") for _, lines in cards)
    page.status(f"{count} of 12 shapes.")
    classes.select_by_visible_text("all")
    page.at("within").send_keys(*[Keys.ARROW_LEFT] * 45)
    limit = float(page.at("within-text").text)
    assert page.at("within").get_attribute("aria-valuetext") == page.at("within-text").text
    within = [float(lines[1].removeprefix("distance ")) for _, lines in page.cards()]
    assert 0 < len(within) < 12 and max(within) <= limit + 0.0005
    page.at("within").send_keys(Keys.END)
    assert len(page.cards()) == 12 and page.at("within-text").text == "any"


def test_the_up_axis_is_chosen(page, chair):
    page.search(chair)
    before = page.at("facts").text
    Select(page.at("up")).select_by_value("y")
    page.wait(lambda: "OFF, y up" in page.at("facts").text)
    assert page.at("facts").text != before
    Select(page.at("up")).select_by_value("")
    page.wait(lambda: "OFF, z up" in page.at("facts").text)


def test_a_file_that_is_too_large_is_not_sent(page, tmp_path):
    (tmp_path / "large.stl").write_bytes(bytes(2**25 + 1))
    page.at("file").send_keys(str(tmp_path / "large.stl"))
    page.wait(lambda: page.at("failure").is_displayed())
    assert page.at("failure").text == "large.stl: it has 33,554,433 bytes, the limit is 33,554,432."


def test_a_file_that_is_no_mesh_is_refused_in_words(page, tmp_path):
    (tmp_path / "notes.off").write_bytes(b"PK\x03\x04")
    browsers.drop(page.driver, tmp_path / "notes.off")
    page.wait(lambda: page.at("failure").is_displayed())
    assert page.at("failure").text == "notes.off: it is a ZIP archive: unpack it first."
    assert page.at("failure").get_attribute("role") == "alert"
    logged = browsers.errors(page.driver)  # the browser itself logs an answer that is not 200
    assert len(logged) == 1 and "/api/search" in logged[0] and "422" in logged[0]
    assert page.heading() == "Shapes"


def test_names_are_text(page, tmp_path, chair):
    path = tmp_path / "<img src=x onerror=alert(1)>.off"
    path.write_bytes(chair.read_bytes())
    page.search(path)
    assert page.at("name").text == path.name and not page.driver.find_elements(By.CSS_SELECTOR, "main img")


def test_the_keyboard_is_enough(page, meshes):
    keys = ActionChains(page.driver)
    page.at("theme").click()
    keys.send_keys(Keys.ESCAPE, Keys.TAB).perform()
    assert page.script("return document.activeElement.id") == "file"
    outline = page.script("return getComputedStyle(document.querySelector('label[for=file]')).outlineStyle")
    assert outline == "solid"  # the focus is seen on the label
    page.at("file").send_keys(str(meshes.parent / "query.off"))
    page.wait(lambda: page.heading() == "Most similar to query.off")
    page.script("document.getElementById('view').focus()")
    before = page.settled()
    keys = ActionChains(page.driver)
    keys.send_keys(Keys.ARROW_LEFT, Keys.ARROW_UP, "+").perform()
    page.wait(lambda: page.pixels() != before)
    page.wait(lambda: "Turned by 345 degrees" in page.at("view-status").get_attribute("textContent"))
    ActionChains(page.driver).send_keys("0").perform()
    page.wait(lambda: page.settled() == before)
    page.driver.find_element(By.CSS_SELECTOR, "[data-view=right]").send_keys(Keys.ENTER)
    page.wait(lambda: page.pixels() != before)
    page.driver.find_element(By.CSS_SELECTOR, "#cards .open").send_keys(Keys.ENTER)
    page.wait(lambda: "#shape=" in page.script("return location.hash"))


def test_dragging_turns_it_and_the_wheel_scrolls_the_page(page, chair):
    page.search(chair)
    before = page.settled()
    ActionChains(page.driver).drag_and_drop_by_offset(page.at("view"), 60, 20).perform()
    page.wait(lambda: page.settled() != before)
    after = page.settled()
    browsers.emulate(page.driver, 1400, 500)
    page.wait(lambda: page.script("return innerHeight") == 500)
    page.script("scrollTo(0, 0)")
    ActionChains(page.driver).scroll_from_origin(_origin(page.at("view")), 0, 200).perform()
    page.wait(lambda: page.script("return scrollY") > 50)
    assert page.settled() == after


def _origin(element):
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    return ScrollOrigin.from_element(element, 0, -100)


def test_everything_that_can_be_used_has_a_name_and_is_large_enough(page, chair):
    page.search(chair)
    used = page.driver.find_elements(By.CSS_SELECTOR, "a, button, input, select, [role=application]")
    shown = [element for element in used if element.is_displayed()]
    assert len(shown) > 20 and [element.get_attribute("outerHTML")[:80] for element in shown
                                if not element.accessible_name] == []
    sizes = page.script("return [...arguments[0]].map((e) => Math.min(e.offsetWidth, e.offsetHeight))",
                        [e for e in shown if e.tag_name in ("button", "select")])
    assert min(sizes) >= 24


def test_it_is_light_and_dark(page):
    def brightness():
        colour = page.driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
        return sum(int(part) for part in colour[colour.index("(") + 1:-1].split(",")[:3]) / 3

    theme = Select(page.at("theme"))
    theme.select_by_value("dark")
    assert brightness() < 60
    theme.select_by_value("light")
    assert brightness() > 200
    theme.select_by_value("auto")
    for scheme, dark in (("dark", True), ("light", False)):
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                    {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        page.wait(lambda: (brightness() < 60) is dark)  # noqa: B023


@pytest.mark.parametrize("width", [320, 1400])
def test_nothing_is_wider_than_the_screen(page, width, chair, tmp_path):
    long = tmp_path / f"{'averylongname' * 9}.off"
    long.write_bytes(chair.read_bytes())
    browsers.emulate(page.driver, width, 740, touch=width < 400)
    page.search(long)
    wide = page.script("""return [...document.querySelectorAll("body *")].filter((e) => !e.closest(".hidden") &&
        e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))""")
    assert page.script("return document.documentElement.scrollWidth") <= width and wide == []
    browsers.emulate(page.driver, 1400, 1000)


def test_a_page_at_200_percent_is_sharp_and_no_wider(page, chair):
    page.search(chair)
    browsers.emulate(page.driver, 700, 500, touch=True)  # 1400 by 1000 points of the screen
    page.wait(lambda: page.script("return devicePixelRatio") == 2)
    page.wait(lambda: page.script("const view = document.getElementById('view');"
                                  "const { width, height, clientWidth, clientHeight } = view;"
                                  "return width === 2 * clientWidth && height === 2 * clientHeight"))
    assert page.settled()["share"] > 0.02
    assert page.script("return document.documentElement.scrollWidth") <= 700
    browsers.emulate(page.driver, 1400, 1000)


def test_a_swipe_turns_the_shape_and_scrolls_the_page(page, chair):
    browsers.emulate(page.driver, 360, 740, touch=True)
    page.search(chair)
    page.script("document.getElementById('view').scrollIntoView({ block: 'center' })")
    before, top = page.settled(), page.script("return scrollY")
    place = page.script("const r = document.getElementById('view').getBoundingClientRect();"
                        "return [r.left + r.width / 2, r.top + r.height / 2]")

    def swipe(across, down):
        for kind, share in (("touchStart", 0), *[("touchMove", k / 8) for k in range(1, 9)], ("touchEnd", None)):
            points = [] if share is None else [{"x": place[0] + across * share, "y": place[1] + down * share}]
            page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    swipe(80, 0)
    page.wait(lambda: page.settled() != before)
    turned = page.settled()
    assert page.script("return scrollY") == top
    swipe(0, -120)
    page.wait(lambda: page.script("return scrollY") > top + 40)
    assert page.settled() == turned
    page.driver.find_element(By.CSS_SELECTOR, "#cards .open").click()  # a tap
    page.wait(lambda: "#shape=" in page.script("return location.hash"))
    browsers.emulate(page.driver, 1400, 1000)


@pytest.mark.extra("inspect")
def test_a_shape_s_inspector_opens(page, address):
    link = page.driver.find_element(By.CSS_SELECTOR, "#cards .inspect")
    assert link.get_attribute("target") == "_blank" and link.accessible_name.startswith("inspect bottles/bottle_0.off")
    own = page.driver.current_window_handle
    link.click()
    page.wait(lambda: len(page.driver.window_handles) == 2)
    page.driver.switch_to.window(page.driver.window_handles[1])
    page.wait(lambda: page.script("return document.documentElement.dataset.ready === 'true'"))
    assert page.driver.title == "bottles/bottle_0.off, seen by modelnet40"
    assert page.script("return self.origin") == "null"  # an origin of its own: it cannot ask the server
    answer = page.driver.execute_async_script(
        "const done = arguments[0]; fetch(location.href).then(() => done('answered'), () => done('refused'))")
    assert answer == "refused"
    assert all("fetch" in line.lower() or "connect" in line.lower() for line in browsers.errors(page.driver))
    page.driver.close()
    page.driver.switch_to.window(own)


@pytest.mark.extra("inspect")
def test_the_inspector_of_the_dropped_mesh_opens(page, chair):
    page.search(chair)
    link = page.driver.find_element(By.CSS_SELECTOR, "#inspect-shown a")
    assert link.is_displayed() and "/inspect/sent/" in link.get_attribute("href")
    assert (link.get_attribute("target"), link.get_attribute("rel")) == ("_blank", "noopener")
    own = page.driver.current_window_handle
    link.send_keys(Keys.ENTER)
    page.wait(lambda: len(page.driver.window_handles) == 2)
    page.driver.switch_to.window(page.driver.window_handles[1])
    page.wait(lambda: page.script("return document.documentElement.dataset.ready === 'true'"))
    assert page.driver.title == "your mesh, seen by modelnet40" and page.script("return self.origin") == "null"
    assert "Predicted: chair" in page.driver.find_element(By.TAG_NAME, "header").text
    assert browsers.errors(page.driver) == []
    page.driver.close()
    page.driver.switch_to.window(own)


@pytest.mark.extra("page-test")
@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1400)])
def test_axe_finds_no_fault(page, chair, scheme, width):
    browsers.emulate(page.driver, width, 900, touch=width < 400)
    Select(page.at("theme")).select_by_value(scheme)
    assert axe.violations(page.driver) == []
    page.search(chair)
    assert axe.violations(page.driver) == []
    Select(page.at("theme")).select_by_value("auto")
    browsers.emulate(page.driver, 1400, 1000)


@pytest.mark.extra("page-test")
def test_axe_would_find_one(page):
    page.script("document.getElementById('theme').closest('label').replaceWith(document.getElementById('theme'))")
    assert any(line.startswith("select-name") for line in axe.violations(page.driver))


# ---- the page as one file ----

def test_an_exported_page_is_searched_from_disk(driver, exported, gallery):
    browsers.emulate(driver, 1400, 1000)
    page = Page(driver, exported)
    assert [name for name, _ in page.cards()] == gallery.names
    assert not page.at("drop").is_displayed() and "sparsenet serve" in page.at("no-upload").text
    page.driver.find_elements(By.CSS_SELECTOR, "#cards .open")[4].click()
    page.wait(lambda: page.heading() == f"Most similar to {gallery.names[4]}")
    cards = page.cards()
    assert len(cards) == 11 and {name for name, _ in cards[:2]} == {gallery.names[3], gallery.names[5]}
    page.wait(lambda: page.pixels()["share"] > 0.05)
    assert not page.driver.find_elements(By.CSS_SELECTOR, ".inspect")
    assert browsers.errors(driver) == []
    assert page.script("return performance.getEntriesByType('resource').map((entry) => entry.name)") in ([], ["data:,"])


def test_shapes_that_cannot_be_drawn_are_listed(driver, gallery, tmp_path):
    export_page(tmp_path / "page.html", replace(gallery, places=[], without_pictures="The dataset has moved."), False)
    page = Page(driver, (tmp_path / "page.html").as_uri())
    assert page.at("without-pictures").text == "The dataset has moved. They are listed without pictures."
    page.driver.find_elements(By.CSS_SELECTOR, "#cards .open")[4].click()
    page.wait(lambda: page.heading() == f"Most similar to {gallery.names[4]}")
    assert len(page.cards()) == 11 and not page.at("stage").is_displayed() and page.at("name").is_displayed()
    assert browsers.errors(driver) == []


@pytest.mark.extra("page-test")
def test_axe_finds_no_fault_in_an_exported_page(driver, exported):
    page = Page(driver, exported)
    page.driver.get(f"{exported}#shape=3")
    page.wait(lambda: page.heading().startswith("Most similar"))
    assert axe.violations(driver) == []
