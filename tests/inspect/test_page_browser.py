"""The inspector page in a headless browser: it opens, reacts to the user, and highlights the right cells."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

import sparsenet as sn
from sparsenet.inspect.page import write_page
from sparsenet.inspect.page.shape import mesh_in_cells
from sparsenet.shapes import Off3DPicture
from sparsenet.shapes.parametric import parametric_mesh

pytest.importorskip("selenium", reason="selenium is not installed: pip install 'sparsenet[test]'")

from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import TimeoutException  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

pytestmark = pytest.mark.extra("inspect")

CLASSES = ["ball", "box", "bar"]
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
         "--enable-unsafe-swiftshader", "--window-size=1400,1000", "--disable-background-networking",
         "--no-first-run")
PATIENCE = 60  # seconds: the pictures are drawn by the processor, which others may share


@pytest.fixture(scope="module")
def driver():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        if os.environ.get("SPARSENET_REQUIRE_BROWSER"):
            pytest.fail("SPARSENET_REQUIRE_BROWSER is set, and there is no chromium with chromedriver")
        pytest.skip("no browser: install Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def net():
    return sn.s3dcnn(3, channels=(4, 6, 8)).eval()


@pytest.fixture(scope="module")
def shape():
    picture = Off3DPicture(parametric_mesh("table", np.random.default_rng(1)), 10)
    voxels = picture.voxelize(14)
    x = sn.SparseTensor(voxels.features, np.insert(voxels.coordinates, 0, 0, axis=1), (14,) * 3, 1)
    return x, mesh_in_cells(picture, (14,) * 3)


@pytest.fixture(scope="module")
def records(net, shape):
    return net.activations(shape[0])


@pytest.fixture(scope="module")
def path(tmp_path_factory, net, shape):
    file = tmp_path_factory.mktemp("page") / "page.html"
    write_page(file, net, shape[0], shape[1], CLASSES, "a table")
    return file


@pytest.fixture(scope="module")
def opened(driver, path):
    return Page(driver, path)


@pytest.fixture
def page(opened):
    """The page as it opens: nothing selected, the input shown."""
    opened.reset()
    return opened


class Page:
    """The page as a user sees and operates it."""

    def __init__(self, driver, path):
        self.driver = driver
        driver.get_log("browser")
        driver.get(path.as_uri())
        self.wait(lambda: self.script("return document.documentElement.dataset.ready === 'true'"))

    def reset(self):
        self.script("""
            for (const [id, value] of [["colour", "norm"], ["draw", "cubes"], ["theme", "auto"]]) {
              document.getElementById(id).value = value;
              document.getElementById(id).dispatchEvent(new Event("change"));
            }
            document.activeElement.blur()""")
        self.at("view").click()
        self.draws(self.at("clear").click)
        self.slide_to(0)

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def wait(self, condition):
        return WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition())

    def at(self, name):
        return self.driver.find_element(By.ID, name)

    def drawings(self):
        return int(self.script("return document.documentElement.dataset.drawn"))

    def draws(self, action):
        """Perform an action that redraws the page, and wait until it is drawn."""
        before = self.drawings()
        action()
        self.wait(lambda: self.drawings() > before and not self.is_busy())

    def is_busy(self):
        return self.script("return 'busy' in document.documentElement.dataset")

    def slide_to(self, layer):
        if layer != self.layer():
            self.draws(lambda: self.script("arguments[0].value = arguments[1];"
                                           "arguments[0].dispatchEvent(new Event('input'))", self.at("layer"), layer))

    def layer(self):
        return int(self.at("layer").get_property("value"))

    def selected(self):
        return self.script("const s = window.inspector.state.selected; return s && [s.layer, s.row]")

    def lit(self, plot):
        """The rows of the receptive field that a plot shows."""
        return set(self.trace(plot, "receptive field", "meta.rows"))

    def trace(self, plot, name, part):
        """The data that plotly received for a trace, such as its "x"."""
        return self.script("""
            const trace = document.getElementById(arguments[0]).data.find((one) => one.name === arguments[1]);
            return Array.from(arguments[2].split(".").reduce((value, key) => value[key], trace))""", plot, name, part)

    def corners(self, plot, name):
        """(V, 3) vertices of a trace's cubes, and (V,) the rows that they belong to."""
        x, y, z, owner = (self.trace(plot, name, part) for part in ("x", "y", "z", "meta.owner"))
        return np.array([x, y, z]).T.reshape(-1, 3), np.array(owner, int)

    def keys(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()


def field(records, layer, row):
    """Rows of each earlier layer that a row depends on: {layer: set}, from the rulebooks' pairs, one at a time."""
    found = {layer: {row}}
    for index in range(layer, 0, -1):
        record = records[index - 1]
        if record.rulebook is not None:
            pairs = record.rulebook.pairs.tolist()
            found[index - 1] = {given for given, made in pairs if made in found[index]}
        elif record.sites is not None:
            found[index - 1] = found[index]
        else:
            rows = len(record.input.features.numpy()) if hasattr(record.input, "sites") else 1
            found[index - 1] = set(range(rows))
    return found


def test_it_opens_without_errors_and_asks_no_network(page):
    errors = [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    asked = page.script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in asked if not name.startswith(("data:", "blob:"))] == []
    assert page.at("failure").is_displayed() is False
    assert page.driver.title == "a table"


def are_corners(page, plot, name, coordinates):
    """Whether each vertex of the trace is a corner of its row's cell."""
    corners, owner = page.corners(plot, name)
    cells = coordinates[:, 1:][owner]
    return bool(((corners == cells) | (corners == cells + 1)).all())


def test_the_slider_changes_the_plot(page, records, shape):
    given = [shape[0].coordinates, *(record.coordinates for record in records)]
    names = ["input", *(record.name for record in records)]
    for layer in (0, 1, 3, 4, len(records)):
        page.slide_to(layer)
        expected = np.zeros((1, 4), int) if given[layer] is None else given[layer]
        assert are_corners(page, "layer-plot", "sites", expected)
        corners, _ = page.corners("layer-plot", "sites")
        assert corners.min(axis=0).tolist() == expected[:, 1:].min(axis=0).tolist()
        assert corners.max(axis=0).tolist() == (expected[:, 1:].max(axis=0) + 1).tolist()
        assert page.at("layer-name").text == f"{layer} {names[layer]}"


def test_a_click_lights_up_the_field_that_the_rulebooks_give(page, records, shape):
    page.slide_to(4)
    plot = page.at("layer-plot")
    for across, down in [(0, 0), (0, 30), (-30, 10), (30, 10), (0, -30), (-60, 0), (60, 30)]:
        ActionChains(page.driver).move_to_element_with_offset(plot, across, down).pause(0.3).click().perform()
        try:
            WebDriverWait(page.driver, 3).until(lambda _: page.selected())
            break
        except TimeoutException:
            continue  # nothing lies there
    layer, row = page.selected()
    assert layer == 4
    expected = field(records, layer, row)
    page.wait(lambda: not page.is_busy())
    assert page.lit("input-plot") == expected[0]
    assert are_corners(page, "input-plot", "receptive field", shape[0].coordinates)
    for earlier in (3, 2, 1):
        page.slide_to(earlier)
        assert page.lit("layer-plot") == expected[earlier]
        assert are_corners(page, "layer-plot", "receptive field", records[earlier - 1].coordinates)
    counts = [line.text for line in page.driver.find_elements(By.CSS_SELECTOR, "#film .lit")]
    assert counts == [f"{len(expected[i])} lit" if i <= 4 else "" for i in range(len(records) + 1)]


def test_every_row_has_the_field_that_the_rulebooks_give(page, records):
    for layer in (6, 8, len(records)):
        for row in range(0, len(records[layer - 1].features), 5):
            found = page.script("return window.inspector.receptiveField(arguments[0], arguments[1])", layer, row)
            expected = field(records, layer, row)
            assert {i: set(rows) for i, rows in enumerate(found) if rows is not None} == expected


def test_the_entries_are_those_of_the_rulebook(page, records):
    for layer in (4, 6):  # a convolution, a pooling
        record, row = records[layer - 1], 7
        page.slide_to(layer)
        number = page.at("row")
        number.clear()
        number.send_keys(str(row))
        page.draws(page.at("choose").click)
        shown = [[cell.text for cell in line.find_elements(By.TAG_NAME, "td")]
                 for line in page.driver.find_elements(By.CSS_SELECTOR, "#site tbody tr")]
        offsets = record.rulebook.geometry.kernel_offsets.tolist()
        cells = record.input.coordinates[:, 1:].tolist()
        expected = []
        for k, offset in enumerate(offsets):
            start, stop = record.rulebook.pair_splits[k:k + 2]
            for given, made in record.rulebook.pairs[start:stop].tolist():
                if made == row:
                    expected.append([str(k), f"({str(offset)[1:-1]})", str(given), f"({str(cells[given])[1:-1]})"])
                    expected[-1] += [f"W[{k}]"] if layer == 4 else []
        assert [line[:len(expected[0])] for line in shown] == expected


def test_an_entry_leads_to_its_input(page, records):
    page.slide_to(4)
    page.draws(lambda: page.keys("n"))
    entry = page.driver.find_element(By.CSS_SELECTOR, "#site tbody button")
    row = int(entry.text.replace(",", ""))
    page.draws(entry.click)
    assert page.selected() == [3, row] and page.layer() == 3


def test_the_keyboard_is_enough(page):
    page.draws(lambda: page.keys("]"))
    page.draws(lambda: page.keys("]"))
    page.draws(lambda: page.keys("["))
    assert page.layer() == 1
    page.draws(lambda: page.keys("n"))
    page.draws(lambda: page.keys("n"))
    assert page.selected() == [1, 1]
    page.draws(lambda: page.keys("p"))
    assert page.selected() == [1, 0] and "Selected row 0" in page.at("status").text
    page.draws(lambda: page.keys("c"))
    assert page.selected() is None
    eye = "return document.getElementById('input-plot').layout.scene.camera.eye"
    before = page.script(eye)
    page.script("document.getElementById('layer-plot').focus()")
    page.keys("\ue012", "\ue013", "+")  # left, up, zoom in: both scenes turn
    page.wait(lambda: page.script(eye) != before)
    after = page.script(eye)
    assert np.hypot(*[after[a] for a in "xy"]) < np.hypot(*[before[a] for a in "xy"]) and after["x"] != before["x"]
    page.keys("0")
    page.wait(lambda: page.script(eye) == before)


def test_colours_follow_what_is_chosen(page, records):
    page.slide_to(4)
    features = records[3].features
    norms, owner = np.linalg.norm(features, axis=1), page.corners("layer-plot", "sites")[1]
    np.testing.assert_allclose(page.trace("layer-plot", "sites", "intensity"), norms[owner], atol=1e-3 * norms.max())
    page.draws(lambda: Select(page.at("colour")).select_by_value("channel"))
    page.draws(lambda: Select(page.at("channel")).select_by_value("5"))
    shown = page.trace("layer-plot", "sites", "intensity")
    np.testing.assert_allclose(shown, features[owner, 5], atol=1e-3 * np.ptp(features))
    page.draws(lambda: Select(page.at("draw")).select_by_value("points"))
    assert "".join(page.trace("layer-plot", "sites", "type")) == "scatter3d"


def test_the_importance_of_a_site_is_drawn_and_told(page, net, shape):
    page.slide_to(5)
    page.draws(lambda: Select(page.at("colour")).select_by_value("importance"))
    importance = sn.inspect.grad_cam(net, shape[0], 5).importance
    shown, owner = page.trace("layer-plot", "sites", "intensity"), page.corners("layer-plot", "sites")[1]
    np.testing.assert_allclose(shown, importance[owner], atol=1e-3 * importance.max())
    assert importance.any() and "importance (Grad-CAM)" in page.at("layer-colour").text
    row = int(importance.argmax())
    page.at("row").clear()
    page.at("row").send_keys(str(row))
    page.draws(page.at("choose").click)
    told = dict(zip(*([part.text for part in page.driver.find_elements(By.CSS_SELECTOR, f"#site {tag}")]
                      for tag in ("dt", "dd")), strict=True))
    assert float(told["importance"]) == pytest.approx(importance[row], rel=1e-3)


def test_everything_that_can_be_used_has_a_name(page):
    used = page.driver.find_elements(By.CSS_SELECTOR, "button, input, select, [role=application], [tabindex='0']")
    unnamed = [element.get_attribute("outerHTML")[:80] for element in used
               if element.is_displayed() and not element.accessible_name]
    assert len(used) > 30 and unnamed == []
    page.slide_to(3)
    assert page.at("layer").get_attribute("aria-valuetext") == "3, max_pool1"
    current = page.driver.find_elements(By.CSS_SELECTOR, "#film [aria-current], #layers [aria-current]")
    assert len(current) == 2 and "max_pool1" in current[0].accessible_name
    assert page.at("status").get_attribute("aria-live") == "polite" and "max_pool1" in page.at("status").text
    assert page.driver.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"


def test_it_is_light_and_dark(page):
    def brightness():
        colour = page.driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
        return sum(int(part) for part in colour[colour.index("(") + 1:-1].split(",")[:3]) / 3

    page.draws(lambda: Select(page.at("theme")).select_by_value("light"))
    light = brightness()
    page.draws(lambda: Select(page.at("theme")).select_by_value("dark"))
    assert light > 200 and brightness() < 60
    text = page.script("return document.getElementById('layer-plot').layout.font.color")
    assert int(text[1:3], 16) > 200
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                {"features": [{"name": "prefers-color-scheme", "value": "light"}]})
    page.draws(lambda: Select(page.at("theme")).select_by_value("auto"))
    assert brightness() == light


def test_a_shape_without_voxels_opens_as_well(driver, net, tmp_path):
    empty = sn.SparseTensor(np.zeros((0, 1), np.float32), np.zeros((0, 4), int), (14,) * 3, 1)
    write_page(tmp_path / "empty.html", net, empty, None, CLASSES)
    page = Page(driver, tmp_path / "empty.html")
    page.slide_to(3)
    page.keys("n")
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
