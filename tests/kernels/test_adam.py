"""The fused step of Adam against the formula written out."""

import numpy as np
import pytest
from cuda_host.storage import HALF, in_half, precise
from reference import assert_close

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads

SETTINGS = (0.1, 0.9, 0.99, 1e-3, 0.05)  # lr, betas, eps, weight decay


def expected_step(parameter, gradient, mean, square, maximum, lr, beta1, beta2, eps, weight_decay, decoupled, steps,
                  loss_scale):
    """torch.optim.Adam and AdamW as their documentation writes them: parameter, mean, square, maximum."""
    g = gradient / loss_scale
    if decoupled:
        parameter = parameter - lr * weight_decay * parameter
    else:
        g = g + weight_decay * parameter
    mean, square = beta1 * mean + (1 - beta1) * g, beta2 * square + (1 - beta2) * g**2
    whole = square / (1 - beta2**steps)
    if maximum is not None:
        maximum = np.maximum(maximum, square)
        whole = maximum / (1 - beta2**steps)
    return parameter - lr * (mean / (1 - beta1**steps)) / (np.sqrt(whole) + eps), mean, square, maximum


def drawn(rng, sizes, dtype, wide=None):
    """Parameters, gradients, means, squares and maxima."""
    parts = [[rng.standard_normal(size) for size in sizes] for _ in range(3)]
    parts += [[rng.random(size) for size in sizes] for _ in range(2)]
    kinds = dtype, dtype, *[wide or dtype] * 3
    return [[one.astype(kind) for one in part] for part, kind in zip(parts, kinds, strict=True)]


@pytest.mark.parametrize("sizes", [[0], [1], [65_537], [3, 0, 500, 1], [5] * 37, []], ids=str)
@pytest.mark.parametrize(("decoupled", "amsgrad"), [(False, False), (True, True)])
def test_step(launch, sizes, decoupled, amsgrad, dtype, rng):
    arrays = drawn(rng, sizes, dtype)
    settings = (*SETTINGS, decoupled, 3, 8.0)
    expected = [expected_step(*(one.astype(np.float64) for one in five[:4]), five[4].astype(float) if amsgrad else None,
                              *settings) for five in zip(*arrays, strict=True)]
    before = [gradient.copy() for gradient in arrays[1]]
    assert launch("adam_step", *arrays[:4], arrays[4] if amsgrad else None, None, *settings) is None
    for i, (parameter, mean, square, maximum) in enumerate(expected):
        for place, one in ((0, parameter), (2, mean), (3, square), *(((4, maximum),) if amsgrad else ())):
            assert_close(arrays[place][i], one)
        assert np.array_equal(arrays[1][i], before[i])


@in_half
def test_float16_steps_add_up_in_the_masters(launch, dtype, rng):
    """Each step is too small for float16 to show it; together they are not."""
    sizes = [3, 0, 700]
    parameters, gradients, means, squares, _ = drawn(rng, sizes, dtype, np.float32)
    parameters = [np.abs(one) + dtype.type(0.5) for one in parameters]
    masters = [parameter.astype(np.float32) for parameter in parameters]
    expected = [(*precise(*four), None) for four in zip(parameters, means, squares, strict=True)]
    for steps in range(1, 41):
        settings = (2e-5, 0.9, 0.99, 1e-6, 0.01, True, steps, 4.0)
        launch("adam_step", parameters, gradients, means, squares, None, masters, *settings)
        expected = [expected_step(one, gradient.astype(float), mean, square, maximum, *settings)
                    for (one, mean, square, maximum), gradient in zip(expected, gradients, strict=True)]
    for parameter, master, (exact, *_) in zip(parameters, masters, expected, strict=True):
        assert_close(master, exact)
        assert np.array_equal(parameter, master.astype(dtype))


@in_half
def test_a_float16_parameter_that_was_set_counts_before_its_master(launch, dtype):
    parameter, master = np.array([1.0, 3.0], dtype), np.array([1.0001, 2.0], np.float32)  # the second was set to 3
    zeros = [[np.zeros(2, kind)] for kind in (dtype, np.float32, np.float32)]
    launch("adam_step", [parameter], *zeros, None, [master], *SETTINGS[:4], 0.0, True, 1, 1.0)
    assert parameter.tolist() == [1.0, 3.0] and master.tolist() == [np.float32(1.0001), 3.0]


def test_float16_is_accompanied_by_float32(host_driver):
    arrays = [[np.zeros(3, kind)] for kind in (HALF, HALF, np.float32, HALF)]
    with pytest.raises(TypeError, match=r"adam_step: squares.0. is float16, expected float32, the dtype of arithmetic"):
        kernels.launch("adam_step", *arrays, None, None, *SETTINGS, False, 1, 1.0, backend="cuda")


def test_bits_do_not_depend_on_the_number_of_threads(rng):
    arrays = drawn(rng, [150_000, 70_001], np.float32)
    before, results = get_num_threads(), []
    for number in (1, 2, 5):
        set_num_threads(number)
        copies = [[one.copy() for one in part] for part in arrays]
        kernels.launch("adam_step", *copies, None, *SETTINGS, False, 1, 1.0)
        results.append([one.tobytes() for part in copies for one in part])
    set_num_threads(before)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(("place", "value", "message"), [
    (3, [np.zeros(4)], r"squares.0. has shape \(4,\), expected .N0. .N0 = 3 by parameters.0.."),
    (5, [np.zeros(3)], "masters are given, expected None on a CPU"),
    (7, 1.0, "beta1 is 1.0, beta2 0.99, eps 0.001, steps 1, expected betas of at least 0 and below 1"),
    (8, -0.1, "beta2 -0.1"), (9, 0.0, "eps 0.0"), (12, 0, "steps 0"),
])
def test_misfits_raise(place, value, message):
    arguments = [*([np.zeros(3)] for _ in range(4)), None, None, *SETTINGS, False, 1, 1.0]
    arguments[place] = value
    with pytest.raises(ValueError, match="adam_step: .*" + message):
        kernels.launch("adam_step", *arguments)
