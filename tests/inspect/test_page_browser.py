"""The inspector page in a headless browser: it opens, reacts to the user, and highlights the right cells."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from axe import violations
from browsers import chromium, emulate, errors, wait

import sparsenet as sn
from sparsenet.inspect.page import write_page
from sparsenet.inspect.page.shape import mesh_in_cells
from sparsenet.shapes import Off3DPicture
from sparsenet.shapes.parametric import parametric_mesh

pytest.importorskip("selenium", reason="selenium is not installed: pip install 'sparsenet[test]'")

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

pytestmark = pytest.mark.extra("inspect")

CLASSES = ["ball", "box", "bar"]


@pytest.fixture(scope="module")
def driver():
    browser = chromium()
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
    """The page with nothing selected, the input shown."""
    opened.reset()
    return opened


class Page:
    """The page as a user sees and operates it."""

    def __init__(self, driver, path, address=""):
        self.driver = driver
        driver.get_log("browser")
        driver.get("about:blank")  # a change of the address alone does not load the page again
        driver.get(f"{path.as_uri()}#{address}" if address else path.as_uri())
        self.wait(lambda: self.script("return document.documentElement.dataset.ready === 'true'"))

    def reset(self):
        self.script("""
            document.getElementById("letters").checked = true;
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
        return wait(self.driver, condition)

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

    def pixel_of(self, layer, row):
        """Where the centre of a row's cell is in the picture of its layer, from the picture's middle, in pixels."""
        return self.script("""
            const plot = document.getElementById("layer-plot");
            const { glplot, dataScale } = plot._fullLayout.scene._scene;
            const cell = window.inspector.cellOf(arguments[0], arguments[1]);
            let at = [...cell.map((side, axis) => (side + 0.5) * dataScale[axis]), 1];
            for (const m of ["model", "view", "projection"].map((name) => glplot.cameraParams[name])) {
              at = [0, 1, 2, 3].map((i) => at.reduce((sum, value, k) => sum + m[4 * k + i] * value, 0));
            }
            const box = plot.getBoundingClientRect();
            return [Math.round(at[0] / at[3] * box.width / 2), Math.round(-at[1] / at[3] * box.height / 2)]""",
                           layer, row)

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
    across, down = page.pixel_of(4, 7)
    plot = page.at("layer-plot")
    ActionChains(page.driver).move_to_element_with_offset(plot, across, down).click().perform()
    page.wait(page.selected)
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
    assert page.at("status").get_attribute("role") == "status" and "max_pool1" in page.at("status").text
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


def test_it_opens_with_the_most_important_site(driver, path, net, shape):
    page = Page(driver, path)
    layer, row = page.selected()
    importance = sn.inspect.grad_cam(net, shape[0], layer).importance
    assert importance[row] == importance.max() and f"Selected row {row} of" in page.at("status").text
    chance = 100 * net.predict(shape[0])[0]
    assert f"Predicted: {CLASSES[int(chance.argmax())]}, {chance.max():.1f}%" in driver.page_source.replace(
        "<strong>", "").replace("</strong>", "")


def test_the_address_holds_what_is_shown(driver, path):
    page = Page(driver, path)
    page.slide_to(4)
    page.draws(page.at("clear").click)
    page.draws(lambda: page.keys("n"))
    page.draws(lambda: Select(page.at("colour")).select_by_value("channel"))
    page.draws(lambda: Select(page.at("channel")).select_by_value("5"))
    page.draws(lambda: Select(page.at("draw")).select_by_value("points"))
    address = driver.current_url
    assert address.endswith("#layer=4&row=0&colour=channel&channel=5&draw=points")
    page = Page(driver, path, address.partition("#")[2])
    assert page.layer() == 4 and page.selected() == [4, 0]
    assert [page.at(name).get_property("value") for name in ("colour", "channel", "draw")] == ["channel", "5", "points"]
    page.draws(lambda: driver.execute_script("location.hash = 'layer=2&row=1'"))  # as by a link on the page
    assert page.selected() == [2, 1] and page.at("colour").get_property("value") == "norm"
    page = Page(driver, path, "layer=77&row=-1&colour=none&channel=x")  # nothing of it is known
    assert page.selected() and errors(driver) == []


def test_a_row_that_is_not_typed_is_not_row_0(page):
    page.slide_to(4)
    for typed, told in (("", "Type the number of a row"), ("99999", "has rows 0 to"), ("1.5", "not 1.5")):
        page.at("row").clear()
        page.at("row").send_keys(typed)
        page.at("choose").click()
        assert page.selected() is None and told in page.at("status").text


def test_it_steps_along_the_axes(page, records):
    cells = records[3].coordinates[:, 1:]
    middle = int(np.argmin(np.abs(cells - cells.mean(axis=0)).sum(axis=1)))
    page.slide_to(4)
    page.at("row").clear()
    page.at("row").send_keys(str(middle))
    page.draws(page.at("choose").click)
    for axis in range(3):
        beside = [other for other in range(len(cells)) if cells[other, axis] > cells[middle, axis]
                  and (np.delete(cells[other], axis) == np.delete(cells[middle], axis)).all()]
        assert beside
        page.draws(page.at(f"step-{axis}-on").click)
        assert page.selected() == [4, min(beside, key=lambda other: cells[other, axis])]
        assert page.script("return document.activeElement.id") == f"step-{axis}-on"
        page.draws(page.at(f"step-{axis}-back").click)
        assert page.selected() == [4, middle]
    for _ in range(20):
        page.at("step-2-on").click()
    page.wait(lambda: "No active cell lies farther along +z" in page.at("status").text)


def test_letters_can_be_turned_off(page):
    page.script("document.getElementById('letters').checked = false")
    page.keys("]", "n")
    assert page.layer() == 0 and page.selected() is None
    page.script("document.getElementById('letters').checked = true")
    page.draws(lambda: page.keys("]"))
    assert page.layer() == 1


def test_one_voice_tells_a_change(page):
    assert page.driver.find_elements(By.CSS_SELECTOR, "output") == []
    page.draws(lambda: page.at("layer").send_keys("\ue014"))  # the slider's own value is told
    assert page.at("status").get_attribute("aria-live") == "off"
    page.draws(lambda: Select(page.at("colour")).select_by_value("gradient"))
    assert page.at("status").get_attribute("aria-live") == "polite"
    assert "Colour: norm of the gradient" in page.at("status").text
    page.script("document.getElementById('layer-plot').focus()")
    page.keys("\ue012")
    assert "View from" in page.at("status").text


def test_colours_are_those_of_the_bar(page):
    page.slide_to(4)
    trace = "return document.getElementById('layer-plot').data.find((one) => one.name === 'sites')"
    light = page.script(f"{trace}.lighting")
    assert (light["ambient"], light["diffuse"], light["specular"], light["fresnel"]) == (1, 0, 0, 0)
    page.slide_to(0)  # each voxel is 1
    bar = page.script(f"{trace}.colorbar")
    assert bar["tickvals"] == [1] and bar["ticktext"] == ["1"]


def picture(page, plot):
    """(height, width, 3), 0 to 1"""
    from matplotlib.image import imread

    time.sleep(0.5)  # plotly draws with the next frame
    return imread(io.BytesIO(page.at(plot).screenshot_as_png))[..., :3]


def coloured(image):
    """How many pixels of a picture have a strong colour."""
    return int((np.ptp(image, axis=2) > 0.3).sum())


def test_a_selection_pales_the_other_sites_and_clearing_restores_them(page):
    """Of a trace that changes by its opacity alone nothing else is sent to the graphics card: see upkeep.js."""
    def shown():
        return picture(page, "layer-plot"), picture(page, "input-plot")

    for draw in ("cubes", "points"):
        if draw == "points":
            page.draws(lambda: Select(page.at("draw")).select_by_value("points"))
        page.slide_to(2)
        before = shown()
        page.at("row").clear()
        page.at("row").send_keys("3")
        page.draws(page.at("choose").click)
        layer, field = map(coloured, shown())
        assert layer < 0.5 * coloured(before[0]) and field > coloured(before[1]) + 100  # lit, on pale cells
        page.draws(page.at("clear").click)
        for now, then in zip(shown(), before, strict=True):
            assert np.mean(np.abs(now - then).max(axis=2) > 0.1) < 0.005
        page.draws(lambda: Select(page.at("colour")).select_by_value("gradient"))
        changed = np.abs(picture(page, "layer-plot") - before[0]).max(axis=2) > 0.1
        assert np.mean(changed) > 0.05  # other colours are sent
        page.reset()


def test_the_frame_lies_around_its_cell(page):
    width, out = page.script("""
        const plot = document.getElementById("layer-plot");
        const at = (name) => plot.data.find((one) => one.name === name);
        const cell = window.inspector.cellOf(0, 3);
        document.getElementById("row").value = 3;
        document.getElementById("choose").click();
        return new Promise((done) => setTimeout(() => done([at("selected site").line.width,
                                                            cell[0] - at("selected site").x[0]]), 1500))""")
    side = 0.6 * page.script("return document.getElementById('layer-plot').clientHeight") / np.linalg.norm([14] * 3)
    assert 2 <= width <= 7 and out * side > width / 2 and out < 1


def test_a_tap_selects_and_a_swipe_scrolls(driver, path):
    emulate(driver, 360, 740, touch=True)
    try:
        page = Page(driver, path, "layer=4")
        assert page.script("return document.documentElement.scrollWidth") <= 360
        assert page.script("return document.getElementById('film').offsetHeight") < 300
        page.script("document.getElementById('layer-plot').scrollIntoView({ block: 'center' })")
        before = page.script("return scrollY")
        touch(page, [(0, 150), (0, 60), (0, -60), (0, -150)])
        page.wait(lambda: page.script("return scrollY") > before + 50)
        assert page.selected() is None
        page = Page(driver, path, "layer=4")  # a tap would only stop the swipe that runs out
        page.script("document.getElementById('layer-plot').scrollIntoView({ block: 'center' })")
        stands_still(page)
        touch(page, [page.pixel_of(4, 7)])
        page.wait(page.selected)
        assert page.selected()[0] == 4
        eye = "return document.getElementById('layer-plot').layout.scene.camera.eye"
        before, here = page.script(eye), page.script("return scrollY")
        touch(page, [(0, 0), (30, 30), (60, 60), (90, 90)])  # the picture has the focus: the swipe turns it
        page.wait(lambda: page.script(eye) != before)
        assert page.script("return scrollY") == here
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def stands_still(page):
    """Wait until the page no longer scrolls."""
    seen = []
    page.wait(lambda: seen.append(page.script("return scrollY")) or len(seen) > 6 and len(set(seen[-6:])) == 1)


def touch(page, places):
    """A finger on the layer's picture from place to place, in pixels from its middle."""
    x, y = page.script("""
        const box = document.getElementById("layer-plot").getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2]""")
    points = [[{"x": x + across, "y": y + down}] for across, down in places]
    kinds = ["touchStart", *["touchMove"] * (len(points) - 1)]
    for kind, touched in zip([*kinds, "touchEnd"], [*points, []], strict=True):
        page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touched})


def test_the_wheel_scrolls_the_page_until_a_picture_is_clicked(driver, path):
    emulate(driver, 1400, 600)
    try:
        page = Page(driver, path, "layer=4")
        eye = "return document.getElementById('layer-plot').layout.scene.camera.eye"
        plot, before = page.at("layer-plot"), page.script(eye)
        ActionChains(driver).scroll_by_amount(0, 100).perform()
        page.wait(lambda: page.script("return scrollY") >= 100)
        here = page.script("return scrollY")
        ActionChains(driver).scroll_from_origin(ScrollOrigin.from_element(plot), 0, 60).perform()
        page.wait(lambda: page.script("return scrollY") > here)
        assert page.script(eye) == before
        page.script("arguments[0].focus({ preventScroll: true })", plot)
        here = page.script("return scrollY")
        ActionChains(driver).scroll_from_origin(ScrollOrigin.from_element(plot), 0, 60).perform()
        page.wait(lambda: page.script(eye) != before)
        assert page.script("return scrollY") == here
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_sticky_bar_hides_no_focused_button(page):
    page.script("document.querySelector('#layers button:last-of-type').scrollIntoView()")
    page.script("document.querySelector('#film button').focus()")
    top = page.script("return document.activeElement.getBoundingClientRect().top")
    assert top >= page.script("return document.querySelector('.controls').getBoundingClientRect().bottom") - 1


def test_without_webgl_the_pictures_are_flat(driver, path):
    script = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": """
        const get = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
          return kind.startsWith("webgl") ? null : get.call(this, kind, ...rest);
        };"""})
    try:
        page = Page(driver, path, "layer=4")
        assert "no WebGL" in page.at("status").text and errors(driver) == []
        assert not page.at("layer-plot").is_displayed() and is_painted(page, "layer-plot-flat")
        page.draws(lambda: page.keys("n"))
        assert page.selected() == [4, 0]
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def is_painted(page, canvas):
    """Whether a canvas is shown, with something on it."""
    return page.at(canvas).is_displayed() and page.script("""
        const canvas = document.getElementById(arguments[0]);
        return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value)""",
                                                          canvas)


def test_paper_is_light_and_has_pictures(page):
    page.draws(lambda: Select(page.at("theme")).select_by_value("dark"))
    page.slide_to(4)
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        page.script("window.dispatchEvent(new Event('beforeprint'))")
        assert page.driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color").startswith(
            ("rgb(255, 255, 255", "rgba(255, 255, 255"))
        assert is_painted(page, "layer-plot-flat") and is_painted(page, "input-plot-flat")
        assert not page.driver.find_element(By.CSS_SELECTOR, ".controls").is_displayed()
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        page.script("window.dispatchEvent(new Event('afterprint'))")
    assert page.script("return document.documentElement.classList.contains('dark')")


# ---- the shapes that excite a channel most ----

@pytest.fixture(scope="module")
def tops(net):
    shapes = []
    for number, kind in enumerate(("chair", "bed", "lamp", "bottle", "table", "hammer")):
        cells = Off3DPicture(parametric_mesh(kind, np.random.default_rng(number)), 10).voxelize(14).coordinates
        x = sn.SparseTensor(np.ones((len(cells), 1), np.float32), np.insert(cells, 0, 0, axis=1), (14,) * 3, 1)
        shapes.append((f"{kind}/a_rather_long_name_of_a_file_{number}.off", x))
    return sn.inspect.top_shapes(net, shapes, 4)


@pytest.fixture(scope="module")
def with_tops(tmp_path_factory, net, shape, tops):
    file = tmp_path_factory.mktemp("tops") / "page.html"
    write_page(file, net, *shape, CLASSES, "a table", tops=tops)
    return file


def listed(page):
    return [item.text.splitlines() for item in page.driver.find_elements(By.CSS_SELECTOR, "#tops-list li")]


def expected_lines(tops, layer, channel):
    return [(top.name, top.cell, top.value) for top in tops.of(layer, channel)]


def check_listed(page, tops, layer, channel):
    for (name, told), (expected, cell, value) in zip(listed(page), expected_lines(tops, layer, channel), strict=True):
        number, _, place = told.partition(" at cell ")
        assert name == expected and float(number) == pytest.approx(value, rel=1e-3, abs=1e-6)
        assert place == ("" if cell is None else f"({', '.join(map(str, cell))})")


def test_the_shapes_of_a_channel_are_listed(driver, with_tops, tops, net):
    page = Page(driver, with_tops, "layer=4&channel=2")
    names = net.names()
    assert page.at("tops-title").text == f"Shapes that excite channel 2 of {names[3]} most"
    assert "Of 6 shapes" in page.at("tops-note").text
    check_listed(page, tops, names[3], 2)
    page.draws(lambda: Select(page.at("top-channel")).select_by_value("5"))
    check_listed(page, tops, names[3], 5)
    assert f"Channel 5 of {names[3]}: greatest in {tops.of(names[3], 5)[0].name}" in page.at("status").text
    assert driver.current_url.endswith("#layer=4&channel=5")
    for layer in (1, 6, len(names)):  # the last has no grid
        page.slide_to(layer)
        channel = int(page.at("top-channel").get_property("value"))
        check_listed(page, tops, names[layer - 1], channel)
    page.slide_to(0)
    assert listed(page) == [] and not page.at("top-channel").is_displayed()
    assert errors(driver) == []


def test_the_receptive_field_is_marked_in_the_pictures(driver, with_tops, tops, net):
    page = Page(driver, with_tops, "layer=1&channel=0")
    lit = """
        const hue = (r, g, b) => r > 1.6 * g && b > 1.1 * g && r > b;
        return [...document.querySelectorAll("#tops-list canvas")].map((canvas) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let [all, marked] = [0, 0];
          for (let i = 0; i < data.length; i += 4) {
            if (data[i + 3] < 128) continue;
            all += 1;
            if (hue(data[i], data[i + 1], data[i + 2])) marked += 1;
          }
          return [all, marked / all];
        })"""
    near = page.script(lit)
    assert len(near) == 4 and all(drawn > 500 and 0.005 < share < 0.5 for drawn, share in near)
    page.slide_to(len(net.names()))  # a linear layer reads the whole shape
    assert all(share > 0.8 for _, share in page.script(lit))


def test_the_keyboard_goes_through_the_channels(driver, with_tops, net, records):
    page = Page(driver, with_tops, "layer=4")
    keys = {"top-on": 1, "top-back": 0}
    for name, channel in keys.items():
        page.draws(lambda: page.at(name).send_keys("\ue007"))  # noqa: B023
        assert page.at("top-channel").get_property("value") == str(channel)
        assert page.script("return document.activeElement.id") == name
    page.draws(lambda: page.at("top-back").send_keys("\ue007"))
    last = records[3].features.shape[1] - 1
    assert page.at("top-channel").get_property("value") == str(last)
    page.draws(lambda: page.at("top-colour").send_keys("\ue007"))
    assert page.at("colour").get_property("value") == "channel"
    assert page.at("channel").get_property("value") == str(last) and f"colour: channel {last}" in page.at(
        "layer-colour").text
    page.draws(lambda: page.at("top-select").send_keys("\ue007"))
    assert page.selected() == [4, int(records[3].features[:, last].argmax())]
    value = float(page.at("tops-here").text.split(" is ")[1].split(" at most")[0])
    assert value == pytest.approx(records[3].features[:, last].max(), rel=1e-3)


def test_a_page_without_them_has_no_such_section(driver, path):
    page = Page(driver, path)
    assert not page.at("tops").is_displayed()


def test_they_fit_a_phone(driver, with_tops):
    emulate(driver, 360, 740, touch=True)
    try:
        page = Page(driver, with_tops, "layer=4")
        assert page.script("return document.documentElement.scrollWidth") <= 360
        assert page.at("tops").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(driver, with_tops, theme):
    page = Page(driver, with_tops)
    page.draws(lambda: Select(page.at("theme")).select_by_value(theme))
    assert violations(driver) == []
