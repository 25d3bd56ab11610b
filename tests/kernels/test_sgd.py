"""The fused optimizer step against the formula written out."""

import numpy as np
import pytest
from cuda_host.storage import HALF, in_half, precise
from reference import assert_close

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads


def expected_step(parameter, gradient, velocity, lr, momentum, dampening, nesterov, weight_decay, loss_scale):
    g = gradient / loss_scale + weight_decay * parameter
    if velocity is None:
        return parameter - lr * g, None
    velocity = momentum * velocity + (1 - dampening) * g
    return parameter - lr * ((1 - dampening) * g + momentum * velocity if nesterov else velocity), velocity


@pytest.mark.parametrize("sizes", [[0], [1], [65_536], [70_001], [3, 0, 500, 1], [5] * 37, []], ids=str)
@pytest.mark.parametrize("nesterov", [False, True])
def test_step_with_momentum(launch, sizes, nesterov, dtype, rng):
    arrays = [list(rng.standard_normal((3, size)).astype(dtype)) for size in sizes]
    settings = (0.1, 0.9, 0.5, nesterov, 0.01, 8.0)
    expected = [expected_step(*(a.astype(np.float64) for a in three), *settings) for three in arrays]
    parameters, gradients, velocities = ([three[i] for three in arrays] for i in range(3))
    before = [gradient.copy() for gradient in gradients]
    assert launch("sgd_step", parameters, gradients, velocities, None, *settings) is None
    for i, (parameter, velocity) in enumerate(expected):
        assert_close(parameters[i], parameter)
        assert_close(velocities[i], velocity)
        assert np.array_equal(gradients[i], before[i])


def test_step_without_velocity(launch, dtype, rng):
    parameter, gradient = rng.standard_normal((2, 1000)).astype(dtype)
    expected, _ = expected_step(parameter, gradient, None, 0.1, 0, 0, False, 0.01, 2.0)
    launch("sgd_step", [parameter], [gradient], None, None, 0.1, 0.0, 0.0, False, 0.01, 2.0)
    assert_close(parameter, expected)


@in_half
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_float16_steps_add_up_in_the_masters(launch, dtype, momentum, rng):
    """Each step is too small for float16 to show it; together they are not."""
    sizes, steps = [3, 0, 700], 40
    parameters = [rng.uniform(0.5, 1, size).astype(dtype) for size in sizes]
    gradients = [np.full(size, 0.5, dtype) for size in sizes]
    velocities = [np.zeros(size, np.float32) for size in sizes] if momentum else None
    masters = [parameter.astype(np.float32) for parameter in parameters]
    expected = [[*precise(parameter), None if not momentum else np.zeros(parameter.size)] for parameter in parameters]
    settings = (2e-5, momentum, 0.0, False, 0.01, 4.0)
    for _ in range(steps):
        launch("sgd_step", parameters, gradients, velocities, masters, *settings)
        expected = [expected_step(one, gradient.astype(float), velocity, *settings)
                    for (one, velocity), gradient in zip(expected, gradients, strict=True)]
    for parameter, master, (exact, _) in zip(parameters, masters, expected, strict=True):
        assert_close(master, exact)
        assert np.array_equal(parameter, master.astype(dtype))


@in_half
def test_a_float16_parameter_that_was_set_counts_before_its_master(launch, dtype):
    parameter, master = np.array([1.0, 3.0], dtype), np.array([1.0001, 2.0], np.float32)  # the second was set to 3
    launch("sgd_step", [parameter], [np.zeros(2, dtype)], None, [master], 0.1, 0.0, 0.0, False, 0.0, 1.0)
    assert parameter.tolist() == [1.0, 3.0] and master.tolist() == [np.float32(1.0001), 3.0]


@in_half
def test_small_gradients_count_in_what_the_loss_was_scaled_by(launch, dtype):
    parameter, master = np.ones(1, dtype), np.ones(1, np.float32)
    launch("sgd_step", [parameter], [np.full(1, 6e-8, dtype)], None, [master], 1e3, 0.0, 0.0, False, 0.0, 1024.0)
    assert master[0] == np.float32(1) - np.float32(1e3) * np.float32(np.float16(6e-8) / np.float64(1024))


@pytest.mark.parametrize(("velocity", "master", "message"), [
    (HALF, np.float32, r"velocities.0. is float16, expected float32, the dtype of arithmetic with float16"),
    (np.float32, np.float64, r"masters.0. is float64, expected float32"),
])
def test_float16_is_accompanied_by_float32(host_driver, velocity, master, message):
    arrays = [[np.zeros(3, kind)] for kind in (HALF, HALF, velocity, master)]
    with pytest.raises(TypeError, match="sgd_step: " + message):
        kernels.launch("sgd_step", *arrays, 0.1, 0.5, 0.0, False, 0.0, 1.0, backend="cuda")


def test_a_cpu_takes_no_masters():
    with pytest.raises(ValueError, match="sgd_step: masters are given, expected None on a CPU"):
        kernels.launch("sgd_step", *[[np.zeros(3)] for _ in range(4)], 0.1, 0.5, 0.0, False, 0.0, 1.0)


def test_bits_do_not_depend_on_the_number_of_threads(rng):
    arrays = rng.standard_normal((3, 2, 150_000)).astype(np.float32)
    before, results = get_num_threads(), []
    for number in (1, 2):
        set_num_threads(number)
        copies = arrays.copy()
        kernels.launch("sgd_step", *map(list, copies), None, 0.1, 0.9, 0.9, True, 0.01, 1.0)
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
        kernels.launch("sgd_step", [np.zeros(3), np.zeros(3)], gradients, None, None, 0.1, 0.0, 0.0, False, 0.0, 1.0)
