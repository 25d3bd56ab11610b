"""Unions of sites are made once; and what a loader prepares for branching networks is all that a step needs."""

from __future__ import annotations

import copy
import gc
import weakref

import numpy as np
import pytest

from sparsenet import nn, ops
from sparsenet.kernels import find
from sparsenet.nn import SparseNetwork, resnet, unet
from sparsenet.sparse import (
    ActiveSites,
    Branches,
    ConvolutionStep,
    Geometry,
    PoolingStep,
    SparseTensor,
    Upsampling,
    prepare,
    union,
)
from sparsenet.sparse.plan import Course, main_path

MADE = ("output_keys", "neighbours", "transpose_neighbours", "transposed_of_pairs", "pairs", "windows",
        "site_coordinates", "hash_insert")


def sites_of(rng, count=40, side=16, batch=2, dimension=3):
    cells = rng.choice(batch * side**dimension, count, replace=False)
    return ActiveSites(np.stack(np.unravel_index(cells, (batch, *(side,) * dimension)), axis=1), (side,) * dimension,
                       batch)


@pytest.fixture
def made(monkeypatch):
    """The kernels that make sites and rulebooks, as they run."""
    calls = []
    for name in MADE:
        kernel = find(name)
        real = kernel.on("cpu")

        def counted(*arguments, name=name, real=real):
            calls.append(name)
            return real(*arguments)

        monkeypatch.setitem(kernel.implementations, "cpu", counted)
    return calls


def test_a_union_has_all_sites_and_tells_the_rows_of_each(rng):
    parts = [sites_of(rng, count, 3) for count in (20, 9, 13)]
    found = union(*parts)
    assert found.sites.keys.tolist() == sorted(set().union(*(part.keys.tolist() for part in parts)))
    for part, rows in zip(parts, found.rows, strict=True):
        np.testing.assert_array_equal(found.sites.keys[rows], part.keys)
    assert union(*parts).sites is found.sites
    assert union(parts[0]) == (parts[0], (None,))


def test_the_sites_of_one_that_has_them_all_are_the_union(rng):
    x = sites_of(rng)
    part, twin = (ActiveSites.from_keys(keys, x.spatial_size, 2) for keys in (x.keys[::3].copy(), x.keys.copy()))
    nothing = ActiveSites.from_keys(x.keys[:0], x.spatial_size, 2)
    for one, other in ((x, part), (part, x), (x, nothing), (nothing, x), (x, twin)):
        assert union(one, other).sites is x
    assert union(nothing, nothing).sites is nothing and union(twin, x).sites is twin


def test_a_union_keeps_neither_alive_and_is_left_behind_by_copies(rng):
    x, y, z = (sites_of(rng) for _ in range(3))
    larger = ActiveSites.from_keys(np.union1d(x.keys, y.keys), x.spatial_size, 2)
    whole, watch = weakref.ref(union(x, y).sites), weakref.ref(larger)
    assert union(x, larger).sites is larger
    assert copy.deepcopy(x)._unions is None and x.copy()._unions is None
    gc.disable()
    try:
        del larger
        assert watch() is None
        del y
        assert whole() is None, "of sites that are gone nothing is kept"
    finally:
        gc.enable()
    assert union(x, z).sites is union(x, z).sites


def networks():
    def conv(channels, out, size, stride=1, padding=0):
        return nn.SparseConv(channels, out, size, stride, padding, rng=0)

    yield "resnet", resnet(3, channels=(4, 6, 8))
    yield "unet", unet(channels=(4, 6, 8)).add_linear(3)
    yield "wider in both branches", SparseNetwork().add_submanifold(3, 3).add_residual(
        conv(3, 4, (3, 1, 1), padding=(1, 0, 0)), shortcut=conv(3, 4, (1, 3, 1), padding=(0, 1, 0))
    ).add_convolution(5, 3).add_linear(3)
    yield "a strided shortcut of fewer sites", SparseNetwork().add_convolution(3, 2).add_residual(
        conv(3, 4, 3, 2, 1), nn.BatchNorm(4), nn.ReLU(), nn.SubmanifoldConv(4, 4, 3, rng=0), shortcut=conv(3, 4, 1, 2)
    ).add_max_pool(2).add_linear(3)
    yield "branches within branches", SparseNetwork().add_submanifold(3, 3).add_residual(
        nn.Residual(conv(3, 3, (3, 1, 1), padding=(1, 0, 0))), nn.SubmanifoldConv(3, 4, 3, rng=0),
        shortcut=nn.Sequential(conv(3, 4, (1, 3, 1), padding=(0, 1, 0)), nn.SubmanifoldConv(4, 4, 1, rng=0))
    ).add_convolution(5, 3, 2).add_linear(3)


    yield "poolings and a finer grid", SparseNetwork().add_average_pool(3, 2, 1).add_convolution(3, 2).add_upsample(
        2).add_submanifold(4, 3).add_residual(nn.SparseSumPool(2), nn.Upsample(2, 14)).add_max_pool(3, 2, 1).add_linear(
        5, on_sites=True).add_sum_pool(2).add_linear(3)
    yield "depth images", SparseNetwork().add_submanifold(3, 3).add_depth_images(4).add_convolution(
        4, 3, 2).add_max_pool(2).add_image_pool().add_linear(3)
    yield "depth images of the input", SparseNetwork().add_depth_images(5).add_convolution(4, 3).add_image_pool()


@pytest.mark.parametrize("name", dict(networks()))
@pytest.mark.parametrize("count", [30, 1500])
def test_a_step_makes_nothing_that_was_prepared(name, count, made, rng):
    net = dict(networks())[name]
    sites = sites_of(rng, count)
    prepare(sites, net.geometries(), backward=True)
    assert "output_keys" in made
    made.clear()
    x = SparseTensor.from_sites(rng.standard_normal((len(sites), 1)).astype(np.float32), sites)
    ops.softmax_cross_entropy(net(x), np.zeros(2, np.int64)).backward()
    assert not made, f"{name}: made in the step: {made}"


def test_as_one_chain_a_step_would_make_much(made, rng):
    """The test above can fail: without branches the union's rulebooks are not those that were prepared."""
    net = dict(networks())["wider in both branches"]
    sites = sites_of(rng, 200)
    chain = [step for module in net.modules() if hasattr(module, "geometry") for step in module.geometries()]
    prepare(sites, chain, backward=True)
    made.clear()
    net(SparseTensor.from_sites(np.ones((len(sites), 1), np.float32), sites))
    assert made.count("output_keys") == 2


def test_geometries_say_where_paths_part(rng):
    net = resnet(channels=(4, 6))
    same, half = Geometry.make_submanifold(3, 3), Geometry.make(3, 2, 2)
    assert net.geometries() == [
        ConvolutionStep(same, (1, 4)), Branches(((ConvolutionStep(same, (4, 4)), ConvolutionStep(same, (4, 4))), ())),
        Branches(((ConvolutionStep(half, (4, 6)), ConvolutionStep(same, (6, 6))), (ConvolutionStep(half, (4, 6)),)))]
    assert main_path(net.geometries()) == [same, same, same, half, same]
    assert net.spatial_sizes() == [(8, 8, 8)] * 4 + [(4, 4, 4)] * 2


def test_an_upsample_gives_sizes_and_forgets_the_ways_back():
    net = SparseNetwork(field=12).add_average_pool(3, 2, 1).add_upsample(2, 11).add_sum_pool(2).add_upsample((1, 2, 3))
    assert net.spatial_sizes() == [(12,) * 3, (6,) * 3, (11,) * 3, (5,) * 3, (5, 10, 15)]
    assert net.geometries()[:2] == [PoolingStep(Geometry.make(3, 3, 2, 1)), Upsampling(2, 11)]
    with pytest.raises(ValueError, match="field_for: the network has an Upsample, .* set the network's field"):
        net.field_for(1)
    back = SparseNetwork(field=12).add_convolution(2, 2, 2).add_upsample(2).add_inverse_convolution(2, "convolution1")
    with pytest.raises(ValueError, match="InverseConv: no layer before it, or since an Upsample, has the filter"):
        back.spatial_sizes()
    with pytest.raises(ValueError, match="InverseConv: the sites of its input were not made by a strided layer"):
        back(SparseTensor(np.ones((1, 1), np.float32), np.array([[0, 1, 1, 1]]), (12,) * 3, 1))
    below = SparseNetwork(field=12).add_upsample(2).add_average_pool(2).add_inverse_convolution(2, "average_pool1")
    assert below.spatial_sizes()[1:] == [(24,) * 3, (12,) * 3, (24,) * 3]
    uneven = SparseNetwork().add_residual(nn.SparseSumPool(2), nn.Upsample(2))
    assert Course((8, 8, 8)).follow(uneven.geometries()) == (8, 8, 8)
    with pytest.raises(ValueError, match="from a grid of 9x9x9 its paths lead to grids of 8x8x8 and 9x9x9"):
        Course((9, 9, 9)).follow(uneven.geometries())
