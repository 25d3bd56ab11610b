"""The fused optimizer step against the formula written out."""

import numpy as np
import pytest
from reference import assert_close

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads


def expected_step(parameter, gradient, velocity, lr, momentum, dampening, nesterov, weight_decay):
    g = gradient + weight_decay * parameter
    if velocity is None:
        return parameter - lr * g, None
    velocity = momentum * velocity + (1 - dampening) * g
    return parameter - lr * ((1 - dampening) * g + momentum * velocity if nesterov else velocity), velocity


@pytest.mark.parametrize("sizes", [[0], [1], [65_536], [70_001], [3, 0, 500, 1], [5] * 37, []], ids=str)
@pytest.mark.parametrize("nesterov", [False, True])
def test_step_with_momentum(launch, sizes, nesterov, dtype, rng):
    arrays = [list(rng.standard_normal((3, size)).astype(dtype)) for size in sizes]
    settings = (0.1, 0.9, 0.5, nesterov, 0.01)
    expected = [expected_step(*(a.astype(np.float64) for a in three), *settings) for three in arrays]
    parameters, gradients, velocities = ([three[i] for three in arrays] for i in range(3))
    before = [gradient.copy() for gradient in gradients]
    assert launch("sgd_step", parameters, gradients, velocities, *settings) is None
    for i, (parameter, velocity) in enumerate(expected):
        assert_close(parameters[i], parameter)
        assert_close(velocities[i], velocity)
        assert np.array_equal(gradients[i], before[i])


def test_step_without_velocity(launch, dtype, rng):
    parameter, gradient = rng.standard_normal((2, 1000)).astype(dtype)
    expected, _ = expected_step(parameter, gradient, None, 0.1, 0, 0, False, 0.01)
    launch("sgd_step", [parameter], [gradient], None, 0.1, 0.0, 0.0, False, 0.01)
    assert_close(parameter, expected)


def test_bits_do_not_depend_on_the_number_of_threads(rng):
    arrays = rng.standard_normal((3, 2, 150_000)).astype(np.float32)
    before, results = get_num_threads(), []
    for number in (1, 2):
        set_num_threads(number)
        copies = arrays.copy()
        kernels.launch("sgd_step", *map(list, copies), 0.1, 0.9, 0.9, True, 0.01)
        results.append(copies)
    set_num_threads(before)
    assert np.array_equal(*results)


@pytest.mark.parametrize(("gradients", "error", "message"), [
    ([np.zeros(3), np.zeros(4)], ValueError, r"gradients.1. has shape \(4,\), expected .N1. .N1 = 3 by parameters.1.."),
    ([np.zeros(3)], ValueError, "gradients has 1 arrays, expected 2"),
    ([np.zeros(3), np.zeros(3, np.float32)], TypeError, r"gradients.1. is float32 but parameters.0. is float64"),
    (np.zeros((2, 3)), TypeError, "gradients is ndarray, expected a list of arrays"),
])
def test_misfits_raise(gradients, error, message):
    with pytest.raises(error, match="sgd_step: " + message):
        kernels.launch("sgd_step", [np.zeros(3), np.zeros(3)], gradients, None, 0.1, 0.0, 0.0, False, 0.0)
