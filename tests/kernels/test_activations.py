"""ELU, GELU, SiLU, tanh, sigmoid against the C library in float64: values, derivatives, far ends."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from cuda_host.storage import each_storage

from sparsenet import kernels
from sparsenet.kernels import activations, get_num_threads, set_num_threads

ALPHA = 0.75
BY_OUTPUT = {"ELU": True, "GELU": False, "SILU": False, "TANH": True, "SIGMOID": True}  # whether backward reads it
SUBNORMAL = {"float16": 6e-8, "float32": 0, "float64": 0}
each_kind = pytest.mark.parametrize("name", BY_OUTPUT)


def expected(name, x):
    return reference.activation(x, name.lower(), ALPHA)


def forward(launch, name, x, background=None):
    return launch("activation_forward", x, getattr(activations, name), ALPHA, background)


def backward(launch, name, kept, gradient, background=None, below=None):
    return launch("activation_backward", kept, gradient, getattr(activations, name), ALPHA, background, below)


@each_storage
@each_kind
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 3), (2, 8), (1, 17), (300, 7)], ids=str)
def test_values_and_gradients(launch, dtype, name, shape, rng):
    x, gradient = (2 * rng.standard_normal((2, *shape))).astype(dtype)
    given = x.copy(), gradient.copy()
    y = forward(launch, name, x)
    back = backward(launch, name, y if BY_OUTPUT[name] else x, gradient)
    assert y.dtype == back.dtype == dtype and y.shape == back.shape == shape
    tolerance = {"float16": 1e-3, "float32": 5e-7, "float64": 1e-14}[dtype.name]
    np.testing.assert_allclose(y, expected(name, x), rtol=tolerance, atol=SUBNORMAL[dtype.name])
    bound = np.abs(gradient).max(initial=0)  # from an output that was rounded; GELU's and SiLU's slopes cross 0
    slopes = reference.activation_backward(gradient.astype(np.float64), x, name.lower(), ALPHA)
    np.testing.assert_allclose(back, slopes, rtol=0, atol=tolerance * bound)
    assert np.array_equal(x, given[0]) and np.array_equal(gradient, given[1])


def sweep(largest, count=3000):
    """Floats of both signs and of all exponents up to `largest`, and evenly spaced ones."""
    last = int(np.float32(largest).view(np.uint32))
    some = np.linspace(1 << 23, last, count, dtype=np.uint32).view(np.float32)
    return np.concatenate([some, -some, np.linspace(-largest, largest, count, dtype=np.float32)])[None]


@each_kind
def test_float32_errs_by_a_few_units_in_the_last_place(launch, backend, name):
    """Also where |f| is small, as in the tail of GELU; e^-t is 0 from t = 86.6 on, where t e^-t is 2e-36."""
    x = sweep(86 if name != "GELU" else 13.1)
    exact = expected(name, x)
    errors = np.abs(forward(launch, name, x) - exact) / np.spacing(np.abs(exact).astype(np.float32))
    assert errors[np.abs(exact) > 2e-38].max() < (8 if backend == "gpu" else 6)  # whose exp errs by up to 2


@each_kind
def test_far_out_it_saturates(launch, dtype, name):
    x = np.array([[-np.inf, -3e38, -1e3, 1e3, 3e38, np.inf, 0, np.nan]], dtype)
    with np.errstate(all="raise"):
        y = forward(launch, name, x)
        slopes = backward(launch, name, y if BY_OUTPUT[name] else x, np.ones_like(x))
    low, high = (-ALPHA if name == "ELU" else -1 if name == "TANH" else 0), name in ("TANH", "SIGMOID")
    np.testing.assert_array_equal(y[0, :3], [low] * 3)
    np.testing.assert_array_equal(y[0, 3:6], np.ones(3) if high else x[0, 3:6])
    np.testing.assert_array_equal(slopes[0, :6], [0] * 3 + ([0] * 3 if high else [1] * 3))
    assert y[0, 6] == (0.5 if name == "SIGMOID" else 0) and np.isnan(y[0, 7]) and np.isnan(slopes[0, 7])


@each_storage
@each_kind
@pytest.mark.parametrize("shapes", [((0, 3), (1, 3)), ((7, 5), (2, 0)), ((1, 2), (3, 300))], ids=str)
def test_a_background_comes_along(launch, dtype, name, shapes, rng):
    (x, gradient), (background, below) = (rng.standard_normal((2, *shape)).astype(dtype) for shape in shapes)
    for found, one in zip(forward(launch, name, x, background), (x, background), strict=True):
        assert found.dtype == dtype and np.array_equal(found, forward(launch, name, one))
    for found, pair in zip(backward(launch, name, x, gradient, background, below),
                           ((x, gradient), (background, below)), strict=True):
        assert found.dtype == dtype and np.array_equal(found, backward(launch, name, *pair))


@each_kind
def test_the_same_bits_wherever_a_number_lies_and_for_any_number_of_threads(name, rng, dtype):
    x, gradient = rng.standard_normal((2, 300, 700)).astype(dtype)  # several blocks
    before, results = get_num_threads(), set()
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            y, back = forward(kernels.launch, name, x), backward(kernels.launch, name, x, gradient)
            results.add(y.tobytes() + back.tobytes())
    finally:
        set_num_threads(before)
    assert len(results) == 1
    for columns in (slice(0, 1), slice(5, 38), slice(650, 700)):
        part, its = (np.ascontiguousarray(array[-1:, columns]) for array in (x, gradient))
        assert np.array_equal(forward(kernels.launch, name, part), y[-1:, columns])
        assert np.array_equal(backward(kernels.launch, name, part, its), back[-1:, columns])


@pytest.mark.parametrize("kernel", ["activation_forward", "activation_backward"])
def test_an_unknown_kind_is_refused(kernel):
    x = np.zeros((1, 1))
    with pytest.raises(ValueError, match=f"{kernel}: kind is 5, expected ELU, GELU, SILU, TANH or SIGMOID"):
        kernels.launch(kernel, *[x] * (1 if kernel == "activation_forward" else 2), 5, 1.0)
