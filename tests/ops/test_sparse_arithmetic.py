"""-x, x - y, x * y, x * number, x / number of SparseTensors against the same on their dense grids."""

from __future__ import annotations

import operator

import numpy as np
import pytest
import reference

import sparsenet as sn

SIZES = [(7,), (4, 5), (3, 4, 2), (2, 3, 2, 3)]
PAIRS = [operator.sub, operator.mul]


def sparse(rng, spatial_size=(4, 5), count=8, background=(2,), dtype=np.float64):
    coordinates = reference.random_coordinates(rng, count, spatial_size, batch_size=3, empty=(1,))
    features = rng.standard_normal((count, 2)).astype(dtype)
    if background is not None and background != "zeros":
        background = rng.standard_normal(background).astype(dtype)
    return sn.SparseTensor(features, coordinates, spatial_size, 3, background)


@pytest.mark.parametrize("operate", PAIRS)
@pytest.mark.parametrize("spatial_size", SIZES, ids=lambda size: f"{len(size)}d")
@pytest.mark.parametrize("backgrounds", [((2,), (2,)), ((3, 2), (2,)), ((3, 2), (3, 2)), ("zeros", (2,)), (None, None)],
                         ids=str)
def test_equals_the_dense_grids_on_the_union_of_sites(operate, spatial_size, backgrounds, dtype, rng):
    x, y = (sparse(rng, spatial_size, count, background, dtype)
            for count, background in zip((8, 6), backgrounds, strict=True))
    z = operate(x, y)
    assert z.dtype == dtype
    np.testing.assert_array_equal(z.to_dense().numpy(), operate(x.to_dense().numpy(), y.to_dense().numpy()))
    union = {tuple(site) for site in (*x.coordinates.tolist(), *y.coordinates.tolist())}
    assert [tuple(site) for site in z.coordinates.tolist()] == sorted(union)
    assert (z.background is None) == (x.background is None)


@pytest.mark.parametrize("operate", PAIRS)
@pytest.mark.parametrize("shapes", [((2,), (2,)), ((3, 2), (2,)), ((3, 2), (3, 2))], ids=str)
def test_gradients_of_features_and_backgrounds(operate, shapes, rng):
    x, y = sparse(rng, count=8), sparse(rng, count=6)
    arrays = [x.features.array, y.features.array, *(rng.standard_normal(shape) for shape in shapes)]

    def function(f, g, b, c):
        return operate(x.with_features(f, b), y.with_features(g, c)).to_dense()

    assert sn.gradcheck(function, [sn.Tensor(array, requires_grad=True) for array in arrays])


@pytest.mark.parametrize("operate", PAIRS)
def test_gradients_without_backgrounds_and_on_the_sites_of_one_side(operate, rng):
    x = sparse(rng, background=None)
    y = sparse(rng, count=6, background=None)

    def function(f, g):
        return operate(x.with_features(f, None), y.with_features(g, None)).features

    assert sn.gradcheck(function, [sn.Tensor(t.features.array, requires_grad=True) for t in (x, y)])
    some = np.sort(rng.choice(len(x), 5, replace=False))
    part = sn.SparseTensor(x.features.array[some], x.coordinates[some], x.spatial_size, 3, None)
    assert operate(x, part).sites is operate(part, x).sites is operate(x, x).sites is x.sites


@pytest.mark.parametrize("background", ["zeros", (2,), (3, 2), None], ids=str)
@pytest.mark.parametrize("operate", [lambda x: 2.5 * x, lambda x: x * 3, lambda x: x * np.float64(-0.5), operator.neg,
                                     lambda x: np.float32(2) * x, lambda x: x / 4, lambda x: x / np.int64(2)])
def test_numbers_act_on_features_and_background(operate, background, dtype, rng):
    x = sparse(rng, background=background, dtype=dtype)
    z = operate(x)
    assert isinstance(z, sn.SparseTensor) and z.sites is x.sites and z.dtype == dtype
    np.testing.assert_allclose(z.to_dense().numpy(), operate(x.to_dense().numpy().astype(np.float64)), rtol=1e-6)
    assert (z.background is None) == (background is None)


def test_gradients_of_a_scale_that_is_learned(rng):
    x = sparse(rng)
    arrays = x.features.array, rng.standard_normal(2), np.array(1.5)
    inputs = [sn.Tensor(array, requires_grad=True) for array in arrays]

    def function(features, background, scale):
        y = x.with_features(features, background)
        return (scale * y / (scale + 3) - y * scale).to_dense()

    assert sn.gradcheck(function, inputs)


def test_samples_without_sites(rng):
    x = sn.SparseTensor(np.zeros((0, 2)), np.zeros((0, 3), np.int64), (4, 5), 3, np.array([1.0, 2.0]))
    y = sparse(rng)
    for operate in PAIRS:
        np.testing.assert_array_equal(operate(x, y).to_dense().numpy(),
                                      operate(x.to_dense().numpy(), y.to_dense().numpy()))
        assert len(operate(x, x)) == 0
    assert (-x).background.tolist() == [-1, -2]


def test_what_does_not_fit_is_refused(rng):
    x, zeros = sparse(rng), sparse(rng, background=None)
    with pytest.raises(TypeError, match="subtract: y is int, expected a SparseTensor: compute with the rows alone"):
        x - 1
    with pytest.raises(TypeError, match="multiply: y is ndarray, expected a SparseTensor or a number"):
        x * np.ones(2)
    with pytest.raises(TypeError, match="divide: y is SparseTensor, expected a number: divide the rows alone"):
        x / x
    with pytest.raises(ValueError, match="subtract: y has background None, the other has one"):
        x - zeros
    with pytest.raises(ValueError, match="multiply: y has spatial_size"):
        x * sparse(rng, (3, 4, 2))
    with pytest.raises(TypeError, match="multiply: y is float32, x is float64"):
        x * sparse(rng, dtype=np.float32)


def test_shape_is_that_of_the_dense_grid(rng):
    x = sparse(rng)
    assert x.shape == x.to_dense().shape == (3, 2, 4, 5)
