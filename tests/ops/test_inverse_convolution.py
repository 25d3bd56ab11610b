"""The inverse convolution equals the dense transposed convolution at the sites that it goes back to."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import reference

from sparsenet import SparseTensor, Tensor, gradcheck, nn, no_grad, ops
from sparsenet.nn import InverseConv, SparseConv, SparseMaxPool, SparseNetwork, SubmanifoldConv
from sparsenet.sparse import ActiveSites, Geometry, ReversedRulebook
from sparsenet.sparse.reversed_rulebook import way_back

CASES = [  # dimension, side, size, stride, padding, dilation
    (1, 9, 3, 2, 1, 1),
    (1, 7, 2, 1, 0, 3),
    (2, 8, (2, 3), (1, 2), (1, 0), (2, 1)),
    (2, 7, 2, 3, 0, 1),  # sites under no window
    (3, 6, 3, 2, 0, 1),
    (3, 6, 2, 2, 0, 1),
    (4, 4, 2, 2, 1, 1),
]


def setting(case, c_in=3, c_out=2, background=None, bias=True):
    """Features on the output sites of a strided layer of that geometry, weights, and the encoder's sites."""
    dimension, side, *filter_ = case
    rng = np.random.default_rng(3)
    spatial_size = (side,) * dimension
    coordinates = reference.random_coordinates(rng, min(14, side**dimension), spatial_size, 3, empty=(1,))
    sites = ActiveSites(coordinates, spatial_size, 3)
    geometry = Geometry.make(dimension, *filter_)
    output = sites.rulebook(geometry).output_sites
    draw = lambda *shape: Tensor(rng.standard_normal(shape), requires_grad=True)  # noqa: E731
    x = SparseTensor.from_sites(draw(len(output), c_in), output, background)
    return sites, x, draw(geometry.volume, c_in, c_out), draw(c_out) if bias else None, geometry


@pytest.mark.parametrize("background", [None, "row", "rows"])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_dense_transposed_convolution_at_the_sites(case, background):
    rng = np.random.default_rng(4)
    shape = {"row": (3,), "rows": (3, 3)}.get(background)
    sites, x, weight, bias, geometry = setting(case, background=None if shape is None else
                                               Tensor(rng.standard_normal(shape)))
    y = ops.inverse_convolution(x, weight, bias, geometry)
    assert y.sites is sites and y.spatial_size == sites.spatial_size
    assert (y.background is None) == (background is None)
    if background is not None:
        np.testing.assert_array_equal(y.background.array, bias.array)
    grid = reference.to_grid(x.features.array, x.coordinates, x.spatial_size, 3)
    zeros = np.zeros((3, weight.shape[2], *sites.spatial_size))
    dense, *_ = reference.convolution_backward(grid, zeros, weight.array.transpose(0, 2, 1), *case[2:])
    expected = reference.from_grid(dense, y.coordinates) + bias.array
    reference.assert_close(y.features, expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_gradients_by_differences(case, bias):
    _, x, weight, row, geometry = setting(case, background=Tensor(np.ones(3)), bias=bias)

    def function(features, weight, *rest):
        y = ops.inverse_convolution(SparseTensor.from_sites(features, x.sites, Tensor(np.ones(3))), weight,
                                    rest[0] if rest else None, geometry)
        return y.features, y.background

    assert gradcheck(function, [x.features, weight, *([row] if bias else [])])


def test_an_empty_tensor():
    _, x, weight, bias, geometry = setting(CASES[4])
    nothing = ActiveSites(np.zeros((0, 4), np.int32), (6, 6, 6), 2)
    y = ops.inverse_convolution(SparseTensor.from_sites(Tensor(np.zeros((0, 3))),
                                                        nothing.rulebook(geometry).output_sites, None),
                                weight, bias, geometry)
    assert y.features.shape == (0, 2) and y.sites is nothing


@pytest.mark.parametrize("case", CASES)
def test_the_reversed_rulebook_has_the_same_pairs(case):
    sites, x, *_, geometry = setting(case)
    forward, back = sites.rulebook(geometry), way_back(x.sites, geometry)
    assert back.shape == (forward.shape[1], forward.shape[0], forward.shape[2])
    assert back.pair_count == len(back.pairs) == len(forward.pairs)
    np.testing.assert_array_equal(back.pairs[:, ::-1], forward.pairs)
    for offset in range(geometry.volume):
        some = back.pairs[back.pair_splits[offset]:back.pair_splits[offset + 1]]
        assert (np.diff(some[:, 1]) > 0).all()  # by output within an offset, as kernels expect
        np.testing.assert_array_equal(back.neighbours[some[:, 1], offset], some[:, 0])
        np.testing.assert_array_equal(back.transposed_neighbours[some[:, 0], offset], some[:, 1])
    assert (back.neighbours >= 0).sum() == (back.transposed_neighbours >= 0).sum() == len(back.pairs)


def batch(count=30, side=14, channels=2, dtype=np.float32):
    rng = np.random.default_rng(0)
    coordinates = reference.random_coordinates(rng, count, (side,) * 3, 3, empty=(1,))
    return SparseTensor(Tensor(rng.standard_normal((len(coordinates), channels)).astype(dtype)), coordinates,
                        (side,) * 3, 3)


class TestTheLayer:
    def down_and_up(self):
        down, pool = SparseConv(2, 4, 2, 2, rng=0), SparseMaxPool(3, 2)
        layers = [down, SubmanifoldConv(4, 4, 3, rng=1), pool, SubmanifoldConv(4, 4, 3, rng=2),
                  InverseConv(4, 3, pool, rng=3), InverseConv(3, 2, down, bias=False, rng=4)]
        return nn.Sequential(*layers)

    def test_leads_through_a_network_and_back(self):
        x, net = batch(), self.down_and_up()
        y = net(x)
        assert y.sites is x.sites and y.channels == 2
        (y.features * y.features).sum().backward()
        assert all(parameter.grad is not None and np.abs(parameter.grad).sum() > 0 for parameter in net.parameters())

    def test_without_the_encoders_sites_it_finds_equal_ones(self):
        x, net = batch(), self.down_and_up()
        expected, deep = net(x), nn.Sequential(*net.layers[:4])(x)
        sites = weakref.ref(x.sites)
        keys = x.sites.keys.copy()
        del x
        deep = deep.detach()
        features = expected.features.array
        del expected
        gc.collect()
        assert sites() is None
        y = nn.Sequential(*net.layers[4:])(deep)
        np.testing.assert_array_equal(y.sites.keys, keys)
        np.testing.assert_array_equal(y.features.array, features)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
    def test_copies_lead_back(self, copied):
        x, net = batch(), self.down_and_up()
        deep = nn.Sequential(*net.layers[:4])(x).detach()
        with no_grad():
            y = nn.Sequential(*copied(net).layers[4:])(copied(deep))
        np.testing.assert_array_equal(y.sites.keys, x.sites.keys)
        np.testing.assert_array_equal(y.features.array, net(x).features.array)

    def test_no_reference_cycle_keeps_the_sites(self):
        x, net = batch(), self.down_and_up()
        gc.disable()
        try:
            y = net(x)
            alive = [weakref.ref(x.sites), weakref.ref(next(iter(x.sites._rulebooks.values())).output_sites)]
            del x, y
            assert [one() for one in alive] == [None, None]
        finally:
            gc.enable()

    def test_in_a_sparse_network(self):
        net = (SparseNetwork(in_channels=2, seed=1).add_convolution(4, 2, 2).add_relu().add_max_pool(3, 2)
               .add_submanifold(4, 3).add_inverse_convolution(3, "max_pool1")
               .add_inverse_convolution(2, "convolution1"))
        x = batch()
        assert net.spatial_sizes(14) == [(14,) * 3, (7,) * 3, (3,) * 3, (3,) * 3, (7,) * 3, (14,) * 3]
        assert net.field_for(14) == (14, 14, 14)
        records = net.activations(x)
        assert records[-1].output.sites is x.sites
        assert records[-1].pairs == records[0].pairs and records[-2].pairs == records[2].pairs
        assert records[-1].multiply_adds == records[0].pairs * 3 * 2
        assert "inverse_convolution2" in net.summary(x)

    def test_a_sample_has_the_same_bits_in_any_batch(self):
        net, x = self.down_and_up().eval(), batch(60)
        with no_grad():
            whole = net(x)
            splits = x.sites.batch_splits
            for sample in range(3):
                rows = slice(int(splits[sample]), int(splits[sample + 1]))
                coordinates = x.coordinates[rows].copy()
                coordinates[:, 0] = 0
                alone = net(SparseTensor(x.features.array[rows], coordinates, x.spatial_size, 1))
                np.testing.assert_array_equal(alone.features.array, whole.features.array[rows])

    def test_what_a_loader_prepares_is_all_that_a_step_needs(self):
        from sparsenet.sparse import prepare

        net, x = self.down_and_up(), batch()
        prepare(x.sites, net.geometries(), backward=True)
        books = [x.sites.rulebook(net.layers[0].geometry)]
        books.append(books[0].output_sites.rulebook(net.layers[2].geometry))
        before = [set(vars(book)) for book in books]
        net(x).features.sum().backward()
        assert [set(vars(book)) for book in books] == before


class TestErrors:
    def test_other_sites(self):
        x = batch()
        pool = SparseMaxPool(2, 2)
        with pytest.raises(ValueError, match="were not made by a strided layer; expected those of the layer that it"):
            InverseConv(2, 2, pool)(x)
        with pytest.raises(ValueError, match=r"were made by .*expected those of the layer"):
            InverseConv(2, 2, pool)(SparseMaxPool(3, 2)(x))

    def test_a_layer_without_a_filter(self):
        with pytest.raises(TypeError, match="layer is ReLU, expected a convolution or pooling"):
            InverseConv(2, 2, nn.ReLU())
        with pytest.raises(ValueError, match="layer is submanifold and keeps its sites"):
            InverseConv(2, 2, SubmanifoldConv(2, 2, 3))
        with pytest.raises(ValueError, match="is submanifold: its output sites are its input sites"):
            ReversedRulebook(batch().sites.rulebook(Geometry.make_submanifold(3, 3)))

    def test_wrong_input(self):
        layer = InverseConv(2, 2, SparseMaxPool(2, 2))
        y = SparseMaxPool(2, 2)(batch())
        with pytest.raises(TypeError, match="the input is ndarray, expected a SparseTensor"):
            layer(np.zeros((2, 2)))
        with pytest.raises(ValueError, match=r"weights have shape \(8, 3, 2\), expected \(8, 2, C_out\)"):
            InverseConv(3, 2, SparseMaxPool(2, 2))(y)
        with pytest.raises(TypeError, match="features are float64, the weights float32"):
            layer(y.astype(np.float64))
        with pytest.raises(ValueError, match="layer is 'max_pool2', expected an earlier .* did you mean max_pool1"):
            SparseNetwork().add_max_pool(2).add_inverse_convolution(2, "max_pool2")
