"""The fused optimizer step against the formula written out."""

import numpy as np
import pytest
from reference import assert_close

from sparsenet.kernels import get_num_threads, launch, set_num_threads


def expected_step(parameter, gradient, velocity, lr, momentum, dampening, nesterov, weight_decay):
    g = gradient + weight_decay * parameter
    if velocity is None:
        return parameter - lr * g, None
    velocity = momentum * velocity + (1 - dampening) * g
    return parameter - lr * ((1 - dampening) * g + momentum * velocity if nesterov else velocity), velocity


@pytest.mark.parametrize("size", [0, 1, 65_536, 200_001])
@pytest.mark.parametrize("nesterov", [False, True])
def test_step_with_momentum(size, nesterov, dtype, rng):
    arrays = rng.standard_normal((3, size)).astype(dtype)
    settings = (0.1, 0.9, 0.5, nesterov, 0.01)
    parameter, velocity = expected_step(*arrays.astype(np.float64), *settings)
    gradient = arrays[1].copy()
    assert launch("sgd_step", *arrays, *settings) is None
    assert_close(arrays[0], parameter)
    assert_close(arrays[2], velocity)
    assert np.array_equal(arrays[1], gradient)


def test_step_without_velocity(dtype, rng):
    parameter, gradient = rng.standard_normal((2, 1000)).astype(dtype)
    expected, _ = expected_step(parameter, gradient, None, 0.1, 0, 0, False, 0.01)
    launch("sgd_step", parameter, gradient, None, 0.1, 0.0, 0.0, False, 0.01)
    assert_close(parameter, expected)


def test_bits_do_not_depend_on_the_number_of_threads(rng):
    arrays = rng.standard_normal((3, 300_000)).astype(np.float32)
    before, results = get_num_threads(), []
    for number in (1, 2):
        set_num_threads(number)
        copies = arrays.copy()
        launch("sgd_step", *copies, 0.1, 0.9, 0.9, True, 0.01)
        results.append(copies)
    set_num_threads(before)
    assert np.array_equal(*results)


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="sgd_step: gradient has shape"):
        launch("sgd_step", np.zeros(3), np.zeros(4), None, 0.1, 0.0, 0.0, False, 0.0)
