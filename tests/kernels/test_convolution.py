"""Convolution kernels against a plain loop in float64, in both ways, on any number of threads."""

import numpy as np
import pytest
import reference

from sparsenet.kernels import convolution as family
from sparsenet.kernels import get_num_threads, launch, set_num_threads

SHAPES = [(0, 0, 8, 3, 5), (0, 4, 8, 3, 5), (5, 0, 8, 3, 5), (1, 1, 1, 1, 1), (50, 70, 8, 1, 32), (60, 40, 27, 7, 3),
          (3000, 2500, 8, 16, 24)]


def case(n, m, k, c_in, c_out, filled=0.5, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    neighbours = np.full((m, k), -1, np.int32)
    if n:
        neighbours = np.where(rng.random((m, k)) < filled, rng.integers(0, n, (m, k)), -1).astype(np.int32)
    arrays = (rng.standard_normal(shape).astype(dtype) for shape in ((n, c_in), (k, c_in, c_out), (m, c_out), (c_out,)))
    return (neighbours, *arrays)


def forward(features, weights, neighbours, constant):
    out = np.zeros((len(neighbours), weights.shape[2]))
    for m, row in enumerate(neighbours):
        for k, n in enumerate(row):
            if n >= 0:
                out[m] += features[n].astype(float) @ weights[k].astype(float)
    return out + (0 if constant is None else constant)


def weight_gradient(features, gradient, neighbours):
    out = np.zeros((neighbours.shape[1], features.shape[1], gradient.shape[1]))
    for k in range(neighbours.shape[1]):
        m = np.flatnonzero(neighbours[:, k] >= 0)
        out[k] = features[neighbours[m, k]].astype(float).T @ gradient[m].astype(float)
    return out


@pytest.fixture(params=["full", "pairs", "chosen"])
def way(request, monkeypatch):
    if request.param != "chosen":
        monkeypatch.setattr(family, "_full_is_cheaper", lambda *_: request.param == "full")
    return request.param


@pytest.fixture(autouse=True)
def restore_threads():
    before = get_num_threads()
    yield
    set_num_threads(before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_forward(shape, dtype, way):
    neighbours, features, weights, _, constant = case(*shape, dtype=dtype)
    for given in (constant, None):
        out = launch("convolution_forward", features, weights, neighbours, given)
        assert out.dtype == dtype
        reference.assert_close(out, forward(features, weights, neighbours, given))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_weight_gradient(shape, dtype, way):
    neighbours, features, _, gradient, _ = case(*shape, dtype=dtype)
    out = launch("convolution_weight_gradient", features, gradient, neighbours)
    assert out.dtype == dtype
    reference.assert_close(out, weight_gradient(features, gradient, neighbours))


@pytest.mark.parametrize("filled", [0.0, 0.05, 0.5, 1.0])
def test_bits_do_not_depend_on_threads(filled, way):
    neighbours, features, weights, gradient, constant = case(5000, 6000, 8, 32, 40, filled)
    results = []
    for threads in (1, 2, 5):
        set_num_threads(threads)
        results.append((launch("convolution_forward", features, weights, neighbours, constant),
                        launch("convolution_weight_gradient", features, gradient, neighbours)))
    for other in results[1:]:
        assert np.array_equal(results[0][0], other[0]) and np.array_equal(results[0][1], other[1])


def test_the_cheaper_way_follows_the_filling():
    dense = family._full_is_cheaper(0.7, 27, 32, 64)
    sparse = family._full_is_cheaper(0.1, 27, 32, 64)
    assert dense and not sparse


def test_inputs_stay_untouched():
    arrays = case(50, 60, 8, 4, 6)
    before = [array.copy() for array in arrays]
    neighbours, features, weights, gradient, constant = arrays
    launch("convolution_forward", features, weights, neighbours, constant)
    launch("convolution_weight_gradient", features, gradient, neighbours)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))
