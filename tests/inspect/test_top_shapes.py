"""The shapes that excite a channel most, against loops over all shapes, sites and pairs."""

from __future__ import annotations

import numpy as np
import pytest

import sparsenet as sn
from sparsenet.data import Sample, SparseDataset
from sparsenet.inspect import TopShapes, top_shapes
from sparsenet.inspect.page.layers import look_into

FIELD = (14, 14, 14)


def shape(seed, share=0.3, field=FIELD):
    """One sample: a share of the cells of a box, somewhere in the grid."""
    rng = np.random.default_rng(seed)
    cells = np.argwhere(rng.random((6, 5, 4)) < share) + rng.integers(0, 8, 3)
    values = rng.standard_normal((len(cells), 1)).astype(np.float32)
    return sn.SparseTensor(values, np.insert(cells, 0, 0, axis=1), field, 1)


@pytest.fixture(scope="module")
def net():
    return sn.s3dcnn(3, channels=(4, 6, 8)).eval()


@pytest.fixture(scope="module")
def shapes():
    return {f"shape {seed}": shape(seed) for seed in range(7)}


@pytest.fixture(scope="module")
def found(net, shapes):
    return top_shapes(net, shapes.items(), 3)


@pytest.fixture(scope="module")
def records(net, shapes):
    return {name: {record.name: record for record in net.activations(x)} for name, x in shapes.items()}


def test_the_greatest_values_are_found(net, shapes, found, records):
    assert found.names == list(shapes) and found.labels == [""] * 7 and list(found.layers) == net.names()
    for layer in net.names():
        for channel in range(len(found.layers[layer].shapes)):
            expected = sorted(((float(record[layer].features[:, channel].max()), name)
                               for name, record in records.items()), reverse=True)[:3]
            tops = found.of(layer, channel)
            assert [(top.value, top.name) for top in tops] == expected
            for top in tops:
                record = records[top.name][layer]
                if record.sites is None:
                    assert top.cell is None
                    continue
                row = record.sites.lookup(np.array([[0, *top.cell]]))[0]
                assert record.features[row, channel] == top.value


def cells_read(records, layer, row):
    """The input cells that a row depends on, through the pairs of the rulebooks, one at a time."""
    names, rows = list(records), {row}
    for name in reversed(names[:names.index(layer) + 1]):
        record = records[name]
        if record.rulebook is not None:
            rows = {given for given, made in record.rulebook.pairs.tolist() if made in rows}
        elif record.sites is None and hasattr(record.input, "sites"):
            rows = set(range(len(record.input)))
    return next(iter(records.values())).input.coordinates[sorted(rows), 1:]


def test_a_field_holds_the_cells_that_the_pairs_lead_to(net, found, records):
    for layer in ("convolution1", "max_pool1", "leaky_relu2", "max_pool2", "convolution3", "linear1"):
        for channel in range(3):
            for top in found.of(layer, channel):
                record = records[top.name][layer]
                row = 0 if top.cell is None else record.sites.lookup(np.array([[0, *top.cell]]))[0]
                read = cells_read(records[top.name], layer, row)
                np.testing.assert_array_equal(top.field, [read.min(axis=0), read.max(axis=0) + 1])
                inside = top.coordinates[top.in_field].tolist()
                assert {tuple(cell) for cell in read.tolist()} <= {tuple(cell) for cell in inside}


def test_a_site_that_reads_no_active_cell_has_an_empty_field():
    """An InverseConv goes back to sites that lie under no window."""
    net = sn.SparseNetwork(seed=2).add_convolution(3, 2, stride=3).add_inverse_convolution(2, "convolution1")
    net.layers[1].bias.array[:] = 5  # the greatest value is that of the bias alone
    net.layers[1].weight.array[:] = -np.abs(net.layers[1].weight.array)
    net.layers[0].bias.array[:] = 9
    x = sn.SparseTensor(np.ones((2, 1), np.float32), [[0, 0, 0, 0], [0, 2, 2, 2]], (6, 6, 6), 1)
    top, = top_shapes(net, [("corners", x)]).of("inverse_convolution1", 0)
    assert top.cell == (2, 2, 2) and top.value == 5 and not top.field.any() and not top.in_field.any()


def test_the_layers_are_those_of_the_inspector_page():
    net, x = sn.resnet(3, channels=(3, 4, 5)), shape(0, field=(16, 16, 16))
    named = [layer.name for layer in look_into(net, x, ["ball", "box", "bar"]).layers][1:]
    assert list(top_shapes(net, [("one", x)]).layers) == named


def test_of_equal_values_the_earlier_shape_and_site_come_first(net):
    x = shape(5)
    tops = top_shapes(net, [("a", x), ("b", x), ("c", x)], 2).of("convolution1", 1)
    assert [top.name for top in tops] == ["a", "b"] and tops[0].value == tops[1].value


def test_fewer_shapes_than_asked_for(net, shapes):
    found = top_shapes(net, list(shapes.items())[:2], 5)
    assert len(found.of("linear1", 0)) == 2 and repr(found) == "TopShapes(2 shapes, 10 layers)"


def test_mode_and_gradients_stay(net, shapes):
    net.train()
    try:
        top_shapes(net, list(shapes.items())[:1])
        assert net.training and all(parameter.grad is None for parameter in net.parameters())
    finally:
        net.eval()


def test_the_shapes_of_a_dataset(net, shapes, tmp_path):
    samples = [Sample(x.coordinates[:, 1:], k % 3 - 1, name, "test", object=k, features=x.features.numpy())
               for k, (name, x) in enumerate(shapes.items())]
    with SparseDataset.create(tmp_path / "shapes.h5", samples, FIELD, 6, ["ball", "box"]) as dataset:
        found = top_shapes(net, dataset.subset("test"), 3)
        part = top_shapes(net, dataset.select([2, 4]), 3)
    assert found.names == list(shapes) and found.labels == ["", "ball", "box", "", "ball", "box", ""]
    same = top_shapes(net, shapes.items(), 3)
    for layer, tops in same.layers.items():
        np.testing.assert_array_equal(found.layers[layer].shapes, tops.shapes)
    assert part.names == ["shape 2", "shape 4"]


def test_what_cannot_be_ranked(net, shapes):
    x = shapes["shape 1"]
    two = sn.SparseTensor(np.ones((2, 1), np.float32), [[0, 1, 1, 1], [1, 2, 2, 2]], FIELD, 2)
    empty = sn.SparseTensor(np.zeros((0, 1), np.float32), np.zeros((0, 4), np.int32), FIELD, 1)
    for given, message in (([], "no shape"), ([("two", two)], "two has 2 samples"), ([("none", empty)], "0 sites")):
        with pytest.raises(ValueError, match=message):
            top_shapes(net, given)
    with pytest.raises(ValueError, match="count is 0"):
        top_shapes(net, [("x", x)], 0)
    with pytest.raises(ValueError, match="render_size: for a SparseDataset alone"):
        top_shapes(net, [("x", x)], render_size=3)
    nan = sn.SparseTensor(np.full((1, 1), np.nan, np.float32), [[0, 1, 1, 1]], FIELD, 1)
    with pytest.raises(ValueError, match="convolution1 has values that are not finite for bad"):
        top_shapes(net, [("bad", nan)])
    found = top_shapes(net, [("x", x)])
    with pytest.raises(ValueError, match="no layer 'convolutoin1': did you mean convolution1"):
        found.of("convolutoin1", 0)
    with pytest.raises(ValueError, match="channel is 4, convolution1 has 0 to 3"):
        found.of("convolution1", 4)


def test_a_picture(found, readable):
    figure = found.picture("max_pool1", [0, 2])
    assert len(figure.axes) == 6 and "channel 2" in figure.axes[3].get_title()
    readable(figure)
    flat = TopShapes(["a"], [""], [np.zeros((1, 2), np.int32)], found.layers)
    with pytest.raises(ValueError, match="of 2 dimensions"):
        flat.picture("linear1", [])
