"""The HTML in notebooks: true, escaped, self-contained, well-formed and small."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

import sparsenet as sn
from sparsenet import nn, notebook
from sparsenet.sparse import Geometry

NASTY = "<script>alert('a & b')</script>"
FIELD = (14, 14, 14)


class Named(nn.Module):
    def forward(self, x):
        return x

    def extra_repr(self):
        return NASTY


def batch(background="zeros"):
    cells = np.array([[0, 3, 4, 5], [0, 3, 4, 6], [2, 0, 0, 13]])
    return sn.SparseTensor(np.array([[1.5], [-2.25], [3]], "f4"), cells, FIELD, 3, background)


def network():
    return sn.s3dcnn(4, channels=(2, 3, 4)).eval()


def rulebook(*views):
    found = batch().sites.rulebook(Geometry.make(3, 3, 2, 1))
    found.prepare(views)
    return found


def parsed(thing) -> ElementTree.Element:
    """The HTML as a tree; it is well-formed XML, too."""
    return ElementTree.fromstring(thing if isinstance(thing, str) else thing._repr_html_())


def facts(thing) -> dict[str, str]:
    rows = parsed(thing).findall(".//table[@class='facts']/tbody/tr")
    return {row.find("th").text: row.find("td").text for row in rows}


def rows(thing, number=0) -> list[list[str]]:
    """The cells of a table, heading first."""
    tables = parsed(thing).findall(".//div[@class='wide']/table")
    return [[cell.text or "" for cell in row] for row in tables[number].iter("tr")]


def squares(thing) -> dict[float, set]:
    """Opacity -> the squares (x, y) of the picture."""
    found = {}
    for path in parsed(thing).iter("path"):
        runs = re.findall(r"M(\d+) (\d+)h(\d+)v1H(\d+)z", path.get("d"))
        assert "".join("M{} {}h{}v1H{}z".format(*run) for run in runs) == path.get("d")
        found[float(path.get("opacity"))] = {(int(x) + i, int(y)) for x, y, n, _ in runs for i in range(int(n))}
    return found


THINGS = {
    "SparseTensor": batch, "no site": lambda: sn.SparseTensor(np.zeros((0, 1)), np.zeros((0, 2), int), (5,), 2),
    "Rulebook": rulebook, "Rulebook with views": lambda: rulebook("pairs", "neighbours"), "network": network,
    "layer": lambda: network().layers[0], "residual network": lambda: sn.resnet(3, channels=(2, 3)),
    "Trace": lambda: sn.inspect.trace(network(), batch()), "settings": lambda: nn.Sequential(Named(), Named()),
    "trace of settings": lambda: sn.inspect.trace(nn.Sequential(Named(), nn.ReLU()), batch()),
}


@pytest.mark.parametrize("name", THINGS)
def test_it_is_self_contained_well_formed_and_small(name):
    text = THINGS[name]()._repr_html_()
    assert parsed(text).get("class") == "sparsenet" and len(text) < 12_000
    tags = {element.tag for element in parsed(text).iter()}
    assert tags <= {"div", "style", "strong", "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption",
                    "svg", "path"}
    assert not re.search(r"https?:|src=|href=|url\(|@import", text)
    assert not re.search(r"(?<!-)color:(?!inherit)|background:(?!none)", text)  # the notebook's own, light or dark


def test_words_are_escaped():
    text = nn.Sequential(Named())._repr_html_()
    assert NASTY not in text and "&lt;script&gt;alert(&#x27;a &amp; b&#x27;)&lt;/script&gt;" in text
    assert rows(text)[1][3] == NASTY
    assert facts(Named())["settings"] == NASTY
    seen = sn.inspect.trace(nn.Sequential(nn.ReLU(), nn.ReLU()), batch())
    object.__setattr__(seen.records[0], "name", NASTY)
    assert NASTY not in seen._repr_html_() and rows(seen)[2][1] == NASTY
    picture = notebook.picture(np.zeros(1, int), np.zeros(1, int), (1, 1), NASTY)
    assert NASTY not in picture and parsed(picture).find("svg").get("aria-label") == NASTY
    assert NASTY not in notebook.card(NASTY, {NASTY: NASTY}, notebook.table([(NASTY,), (NASTY,)]))


class TestSparseTensor:
    def test_its_sizes(self):
        assert facts(batch()) == {
            "sites": "3 of 8,232 cells (0.04%)", "spatial size": "14 × 14 × 14", "channels": "1",
            "batch": "3 samples of 2, 0, 1 sites", "background": "zeros", "stored as": "float32 on cpu"}

    @pytest.mark.parametrize(("background", "told"), [
        (None, "None: inactive cells are skipped"), (np.array([0.25]), "0.25"),
        (np.zeros((3, 1)), "differs by sample")])
    def test_its_background(self, background, told):
        assert facts(batch(background))["background"] == told

    def test_its_first_rows(self):
        assert rows(batch()) == [["row", "batch", "x", "y", "z", "channel 0"], ["0", "0", "3", "4", "5", "1.5"],
                                 ["1", "0", "3", "4", "6", "-2.25"], ["2", "2", "0", "0", "13", "3"]]
        many = sn.SparseTensor(np.ones((9, 7)), np.stack([np.zeros(9, int), np.arange(9)], axis=1), (9,), 1)
        assert len(rows(many)) == 6 and rows(many)[0][-1] == "channel 3"

    @pytest.mark.parametrize(("cells", "size", "expected"), [
        ([[2], [4]], (5,), {1.0: {(2, 0), (4, 0)}}),
        ([[0, 1], [2, 3]], (3, 4), {1.0: {(1, 0), (3, 2)}}),
        ([[0, 0, 0], [1, 0, 2], [1, 1, 2]], (2, 2, 3), {0.5: {(0, 2)}, 1.0: {(1, 0)}}),  # x to the right, z up
        ([[1, 0, 0, 2], [1, 1, 1, 2]], (2, 2, 2, 3), {1.0: {(1, 0)}}),
        ([[0, 0], [0, 1], [1, 1], [129, 64]], (130, 65), {1.0: {(0, 0)}, 0.5: {(21, 43)}}),  # blocks of 3 x 3 cells
        ([[2**31 - 2]], (2**31 - 1,), {1.0: {(63, 0)}}),
    ])
    def test_a_picture_of_its_sites(self, cells, size, expected):
        cells = np.insert(np.array(cells), 0, 0, axis=1)
        found = squares(sn.SparseTensor(np.ones((len(cells), 1)), cells, size, 1))
        assert found == expected
        later = np.where(np.arange(1 + len(size)) == 0, 1, cells)
        assert "sites of sample 1" in sn.SparseTensor(np.ones((len(cells), 1)), later, size, 2)._repr_html_()

    def test_without_a_site_there_is_nothing_to_draw(self):
        found = THINGS["no site"]()
        assert facts(found)["batch"] == "2 samples of 0, 0 sites" and parsed(found).find(".//svg") is None


class TestRulebook:
    def test_its_sizes(self):
        found = rulebook()
        assert facts(found) == {
            "filter": "3/2 padding 1", "input": "3 sites of 14 × 14 × 14", "output": f"{len(found.output_sites)} sites "
            "of 7 × 7 × 7", "kernel offsets": "27", "pairs": f"{found.pair_count}, "
            f"{found.pair_count / len(found.output_sites):.2f} for each output site", "views made": "none yet",
            "on": "cpu"}

    @pytest.mark.parametrize(("views", "told"), [((), None), (("neighbours",), "neighbours"), (("pairs",), "pairs")])
    def test_the_pairs_of_each_offset_if_a_view_tells_them(self, views, told):
        found = rulebook(*views)
        before = set(vars(found))
        tree = parsed(found)
        assert set(vars(found)) - before <= {"pair_count", "_output_sites"}  # no view is made to be shown
        assert facts(found)["views made"] == (told or "none yet")
        if told is None:
            assert tree.find(".//svg") is None
            return
        counts = np.diff(rulebook("pairs").pair_splits)
        heights = np.zeros(27)
        for place, height in re.findall(r"M(\d+) 100v-(\d+)h", tree.find(".//path").get("d")):
            heights[int(place)] = int(height)
        assert np.array_equal(heights, np.rint(100 * counts / counts.max()))
        assert f"pairs of each kernel offset, {counts.min()} to {counts.max()}" in found._repr_html_()


class TestNetwork:
    def test_a_row_for_each_layer(self):
        net = network()
        net.layers[0].weight.requires_grad = False
        assert facts(net) == {"weights": "189, 16 of them frozen", "stored as": "float32 on cpu", "mode": "evaluation",
                              "input": "1 × 14 × 14 × 14"}
        shown = rows(net)
        assert shown[0] == ["", "layer", "kind", "settings", "size", "weights"]
        assert shown[1] == ["1", "convolution1", "SparseConv", "1 -> 2, 2/1", "13 × 13 × 13", "18"]
        assert shown[-1] == ["10", "linear1", "Linear", "4 -> 4", "", "20"] and len(shown) == 11
        assert net.parameter_count() == 189

    def test_layers_within_layers_are_indented(self):
        shown = rows(sn.resnet(3, channels=(2, 3)))
        names = [row[1] for row in shown[1:]]
        assert names[3:6] == ["residual1", "    0", "    1"] and "        0" in names
        assert [row[4] for row in shown if row[1].strip() == "shortcut"] == [""]

    def test_of_a_layer_the_settings(self):
        assert facts(nn.SparseMaxPool(3, 2)) == {"weights": "0", "mode": "training", "settings": "3/2"}

    def test_a_filter_that_does_not_fit_has_no_size(self):
        net = sn.SparseNetwork(2, field=4).add_convolution(2, 3).add_convolution(2, 3).add_relu()
        assert [row[4] for row in rows(net)[1:]] == ["2 × 2", "", ""]

    def test_a_long_list_ends_in_a_count(self):
        shown = rows(nn.Sequential(*(nn.ReLU() for _ in range(notebook.MAX_ROWS + 7))))
        assert len(shown) == 1 + notebook.MAX_ROWS + 1 and shown[-1] == ["and 7 more"]


def test_a_trace_shows_the_words_of_its_two_tables():
    seen = sn.inspect.trace(network(), batch())
    work, values = rows(seen), rows(seen, 1)
    assert work[1][1] == "input" and work[-1][1] == "total" and len(work) == 13 and len(values) == 11
    words = [word for row in (*work, *values) for cell in row for word in cell.split()]
    words += f"kept for a step: {facts(seen)['kept for a step']}".split()
    assert sorted(words) == sorted(word for word in str(seen).split() if not set(word) <= {"-"})
    with sn.no_grad():
        assert facts(sn.inspect.trace(network(), batch())) == {}
    totals = parsed(seen).findall(".//tr[@class='rule']")
    assert [row[1].text for row in totals] == ["total"]
