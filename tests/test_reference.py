"""The dense oracle itself: definitions written out cell by cell, and finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference

CASES = [  # spatial size, filter size, stride, padding, dilation
    ((7,), (3,), (2,), (1,), (1,)),
    ((5, 6), (2, 3), (1, 2), (0, 1), (2, 1)),
    ((4, 5, 3), (2, 2, 3), (2, 1, 1), (1, 0, 1), (1, 2, 1)),
    ((3, 4, 3, 3), (2, 1, 2, 2), (1, 1, 1, 2), (0, 0, 1, 0), (1, 1, 1, 1)),
]


def directional(function, array, direction, step=1e-6):
    return (function(array + step * direction) - function(array - step * direction)) / (2 * step)


def check_gradients(function, arrays, gradients, rng):
    """function(*arrays) -> number; each gradient against a central difference in a random direction."""
    for i, gradient in enumerate(gradients):
        direction = rng.standard_normal(arrays[i].shape)
        expected = directional(lambda a, i=i: function(*arrays[:i], a, *arrays[i + 1:]), arrays[i], direction)
        assert (gradient * direction).sum() == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{len(case[0])}d")
class TestConvolution:
    def test_each_output_cell_is_the_sum_of_its_definition(self, case, rng):
        spatial_size, size, stride, padding, dilation = case
        x, background = rng.standard_normal((2, 3, *spatial_size)), rng.standard_normal(3)
        weight, bias = rng.standard_normal((np.prod(size), 3, 2)), rng.standard_normal(2)
        y = reference.convolution(x, weight, bias, size, stride, padding, dilation, background)
        for b, *m in np.ndindex(2, *y.shape[2:]):
            expected = bias.copy()
            for k, offset in enumerate(itertools.product(*map(range, size))):
                cell = tuple(i * s - p + o * d
                             for i, s, p, o, d in zip(m, stride, padding, offset, dilation, strict=True))
                inside = all(0 <= c < n for c, n in zip(cell, spatial_size, strict=True))
                expected += (x[(b, slice(None), *cell)] if inside else background) @ weight[k]
            np.testing.assert_allclose(y[(b, slice(None), *m)], expected, atol=1e-12)

    def test_gradients_are_those_of_finite_differences(self, case, rng):
        spatial_size, *options = case
        x, background = rng.standard_normal((2, 3, *spatial_size)), rng.standard_normal(3)
        weight, bias = rng.standard_normal((np.prod(options[0]), 3, 2)), rng.standard_normal(2)
        out = reference.convolution(x, weight, bias, *options, background)
        gradient = rng.standard_normal(out.shape)
        gradients = reference.convolution_backward(gradient, x, weight, *options, background)

        def function(x, weight, bias, background):
            return (gradient * reference.convolution(x, weight, bias, *options, background)).sum()

        check_gradients(function, [x, weight, bias, background], gradients, rng)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{len(case[0])}d")
def test_max_pool_and_its_gradient(case, rng):
    spatial_size, size, stride, _, _ = case
    x = rng.standard_normal((2, 3, *spatial_size))
    y, chosen = reference.max_pool(x, size, stride)
    for m in np.ndindex(*y.shape[2:]):
        window = tuple(slice(i * s, i * s + k) for i, s, k in zip(m, stride, size, strict=True))
        np.testing.assert_array_equal(y[(..., *m)], x[(..., *window)].reshape(2, 3, -1).max(axis=2))
    gradient = rng.standard_normal(y.shape)
    backward = reference.max_pool_backward(gradient, chosen, spatial_size, size, stride)
    check_gradients(lambda x: (gradient * reference.max_pool(x, size, stride)[0]).sum(), [x], [backward], rng)


def halves(size):
    """The largest padding of a pooling of that size."""
    return tuple(k // 2 for k in size)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{len(case[0])}d")
def test_padded_pools_are_over_the_cells_within_the_grid(case, rng):
    spatial_size, size, stride, _, _ = case
    padding = halves(size)
    x = rng.standard_normal((2, 3, *spatial_size))
    largest, chosen = reference.max_pool(x, size, stride, padding)
    mean, total = reference.average_pool(x, size, stride, padding), reference.sum_pool(x, size, stride, padding)
    for m in np.ndindex(*largest.shape[2:]):
        window = tuple(slice(max(0, i * s - p), i * s - p + k)
                       for i, s, p, k in zip(m, stride, padding, size, strict=True))
        cells = x[(..., *window)].reshape(2, 3, -1)
        np.testing.assert_array_equal(largest[(..., *m)], cells.max(axis=2))
        np.testing.assert_allclose(total[(..., *m)], cells.sum(axis=2), atol=1e-12)
        np.testing.assert_allclose(mean[(..., *m)], cells.mean(axis=2), atol=1e-12)
    gradient = rng.standard_normal(mean.shape)
    given = (size, stride, padding)
    for function, backward in (
            (lambda x: reference.max_pool(x, *given)[0],
             reference.max_pool_backward(gradient, chosen, spatial_size, *given)),
            (lambda x: reference.sum_pool(x, *given), reference.sum_pool_backward(gradient, spatial_size, *given)),
            (lambda x: reference.average_pool(x, *given),
             reference.average_pool_backward(gradient, spatial_size, *given))):
        check_gradients(lambda x, function=function: (gradient * function(x)).sum(), [x], [backward], rng)


def test_the_first_cell_of_a_padded_window_wins_also_at_minus_infinity():
    _, chosen = reference.max_pool(np.full((1, 1, 3), -np.inf), 2, 1, 1)
    assert chosen.tolist() == [[[1, 0, 0, 0]]]


@pytest.mark.parametrize(("scale", "size"), [(2, None), ((1, 3), None), (2, (7, 9)), ((2, 3), (9, 5)), (1, (2, 8))])
def test_upsampling_and_its_gradient(scale, size, rng):
    x, background = rng.standard_normal((2, 3, 4, 3)), rng.standard_normal(3)
    y = reference.upsample(x, scale, size, background)
    scales = reference.per_axis(scale, 2)
    assert y.shape == (2, 3, *(size or (4 * scales[0], 3 * scales[1])))
    for cell in np.ndindex(*y.shape[2:]):
        i, j = (c // s for c, s in zip(cell, scales, strict=True))
        expected = x[:, :, i, j] if i < 4 and j < 3 else background
        np.testing.assert_array_equal(y[(..., *cell)], np.broadcast_to(expected, (2, 3)))
    gradient = rng.standard_normal(y.shape)
    check_gradients(lambda x, background: (gradient * reference.upsample(x, scale, size, background)).sum(),
                    [x, background], reference.upsample_backward(gradient, (4, 3), scale), rng)


def test_of_equal_cells_max_pool_takes_the_first():
    _, chosen = reference.max_pool(np.zeros((1, 1, 4, 4)), 2)
    assert not chosen.any()


@pytest.mark.parametrize("mode", ["mean", "max", "sum"])
def test_global_pool_gradient(mode, rng):
    x, gradient = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3))
    backward = reference.global_pool_backward(gradient, x, mode)
    check_gradients(lambda x: (gradient * reference.global_pool(x, mode)).sum(), [x], [backward], rng)


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_activations_and_their_gradients(name, rng):
    x, gradient = 2 * rng.standard_normal((2, 3, 4, 5))
    check_gradients(lambda x: (gradient * reference.activation(x, name, 0.7)).sum(), [x],
                    [reference.activation_backward(gradient, x, name, 0.7)], rng)
    middle, far = reference.activation(np.array([0.0, 50.0]), name)
    assert far == (1 if name in ("tanh", "sigmoid") else 50) and middle == (0.5 if name == "sigmoid" else 0)


@pytest.mark.parametrize("slopes", [1, 4])
def test_prelu_and_softmax_gradients(slopes, rng):
    x, gradient, weight = *rng.standard_normal((2, 3, 4, 5)), rng.standard_normal(slopes)
    check_gradients(lambda x, weight: (gradient * reference.prelu(x, weight)).sum(), [x, weight],
                    reference.prelu_backward(gradient, x, weight), rng)
    check_gradients(lambda x: (gradient * reference.softmax(x)).sum(), [x], [reference.softmax_backward(gradient, x)],
                    rng)
    np.testing.assert_allclose(reference.softmax(x).sum(axis=1), 1)


def test_gradients_of_a_chain_of_layers(rng):
    weights = [rng.standard_normal(shape) for shape in ((4, 2, 3), 3, (3, 5), 5)]

    def layers(w, b, v, c):
        return [reference.Layer("convolution", w, b, {"size": 2}),
                reference.Layer("leaky_relu", options={"slope": 0.33}),
                reference.Layer("max_pool", options={"size": 3, "stride": 2}),
                reference.Layer("global_pool", options={"mode": "mean"}), reference.Layer("linear", v, c)]

    x, gradient = rng.standard_normal((2, 2, 8, 8)), rng.standard_normal((2, 5))
    outputs, choices = reference.run_forward(layers(*weights), x)
    x_gradient, found = reference.run_backward(layers(*weights), x, outputs, choices, gradient)

    def function(x, *weights):
        return (gradient * reference.run_forward(layers(*weights), x)[0][-1]).sum()

    check_gradients(function, [x, *weights], [x_gradient, *found[0], *found[4]], rng)


def test_sites_become_a_grid_and_come_back(rng):
    coordinates = reference.random_coordinates(rng, 9, (3, 4), 3, empty=(1,))
    features, background = rng.standard_normal((9, 2)), rng.standard_normal(2)
    grid = reference.to_grid(features, coordinates, (3, 4), 3, background)
    assert grid.shape == (3, 2, 3, 4)
    np.testing.assert_array_equal(reference.from_grid(grid, coordinates), features)
    np.testing.assert_array_equal(grid[1], np.broadcast_to(background[:, None, None], (2, 3, 4)))
    assert reference.occupancy(coordinates, (3, 4), 3).sum() == 9
    assert reference.background_gradient(np.ones_like(grid), coordinates).tolist() == [27, 27]


def test_an_output_is_active_where_an_offset_hits_a_site():
    mask = np.zeros((1, 5), bool)
    mask[0, 2] = True
    assert reference.active_outputs(mask, 2).tolist() == [[False, True, True, False]]
    assert reference.active_outputs(mask, 3, stride=2, padding=1).tolist() == [[False, True, False]]
