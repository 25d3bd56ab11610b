"""Each family that goes by rows, on arrays of more than 2^31 elements on a GPU; on the host, on few rows, to see that
the tests themselves are right."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from convolution_cases import Table
from cuda_host import cupy_of_numpy, device

from sparsenet import backend
from sparsenet.kernels import activations, launch
from sparsenet.sparse import ActiveSites, Geometry

CHANNELS, FEW = 16, 300
BEYOND = 2**31 // CHANNELS + 3  # rows
BYTES = 45 << 30  # of GPU memory that the largest of these takes


@pytest.fixture(params=["host", *([] if device.missing() else [pytest.param("gpu", marks=pytest.mark.gpu)])])
def far(request) -> Iterator[bool]:
    """Whether there are many rows: only on a GPU."""
    if request.param == "host":
        with cupy_of_numpy.installed(request.getfixturevalue("host_driver")):
            yield False
        return
    with open(Path(tempfile.gettempdir()) / "sparsenet_beyond.lock", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # several processes may share the tests: one at a time has the memory
        if backend.cupy().cuda.runtime.memGetInfo()[0] < BYTES:
            pytest.skip(f"the GPU has less than {BYTES >> 30} GiB free: no array of more than 2^31 elements is tried")
        yield True
        backend.cupy().get_default_memory_pool().free_all_blocks()


@pytest.fixture
def xp(far) -> ModuleType:
    return backend.cupy()


@pytest.fixture
def rows(far) -> int:
    return BEYOND if far else FEW


def marked(xp: ModuleType, rows: int, channels: int = CHANNELS) -> object:
    """Zeros, with -1, -2, ... in the last row and 1 in the first."""
    array = xp.zeros((rows, channels), np.float32)
    array[0] = 1
    array[-1] = -1 - xp.arange(channels, dtype=np.float32)
    return array


def get(array: object) -> np.ndarray:
    return backend.to_device(array, "cpu")


LAST = -1 - np.arange(CHANNELS, dtype=np.float32)


def test_leaky_relu(xp, rows):
    x = marked(xp, rows)
    y = launch("leaky_relu_forward", x, 0.5)
    np.testing.assert_array_equal(get(y[-2:]), [np.zeros(CHANNELS), LAST / 2])
    assert get(y[0]).tolist() == [1] * CHANNELS
    del y
    gradient = launch("leaky_relu_backward", x, x, 0.5)
    np.testing.assert_array_equal(get(gradient[-1]), LAST / 2)


def test_activations_with_an_exponential(xp, rows):
    x = marked(xp, rows)
    y = launch("activation_forward", x, activations.SIGMOID, 1.0)
    last = 1 / (1 + np.exp(-LAST))
    np.testing.assert_allclose(get(y[-2:]), [np.full(CHANNELS, 0.5), last], rtol=1e-5)
    del y
    gradient = launch("activation_backward", x, x, activations.TANH, 1.0)
    np.testing.assert_array_equal(get(gradient[-1]), LAST * (1 - LAST**2))


def test_prelu(xp, rows):
    x, slope = marked(xp, rows), xp.arange(CHANNELS, dtype=np.float32)
    y = launch("prelu_forward", x, slope)
    np.testing.assert_array_equal(get(y[-1]), LAST * np.arange(CHANNELS))
    assert get(y[0]).tolist() == [1] * CHANNELS
    del y
    gradient, _, by_slope = launch("prelu_backward", x, x, slope)
    np.testing.assert_array_equal(get(gradient[-1]), LAST * np.arange(CHANNELS))
    np.testing.assert_array_equal(get(by_slope), LAST**2)


def test_softmax(xp, rows):
    x = marked(xp, rows)
    y = launch("softmax_forward", x)
    shares = np.exp(LAST - LAST[0])
    shares /= shares.sum()
    np.testing.assert_allclose(get(y[-2:]), [np.full(CHANNELS, 1 / CHANNELS), shares], rtol=1e-5)
    gradient = launch("softmax_backward", y, x)
    np.testing.assert_allclose(get(gradient[-1]), shares * (LAST - (shares * LAST).sum()), rtol=1e-4, atol=1e-7)


def test_max_pooling(xp, rows):
    """Two inputs for each output, the later ones of which are larger."""
    features = xp.asarray(np.arange(2 * CHANNELS, dtype=np.float32).reshape(2, CHANNELS))
    table = xp.zeros((rows, 2), np.int32)
    table[:, 1] = 1
    table[-1] = 0
    coordinates = xp.zeros((rows, 4), np.int32)
    out, argmax = launch("max_pool_forward", features, None, table, coordinates)[:2]
    np.testing.assert_array_equal(get(out[-2:]), get(features)[::-1])
    assert get(argmax[-2:]).tolist() == [[1] * CHANNELS, [0] * CHANNELS]


def test_sum_pooling(xp, rows):
    """Two inputs for each output but the last, which has one and an inactive cell."""
    features = xp.asarray(np.arange(2 * CHANNELS, dtype=np.float32).reshape(2, CHANNELS))
    table = xp.zeros((rows, 2), np.int32)
    table[:, 1] = 1
    table[-1, 1] = -1
    background, coordinates = xp.full((1, CHANNELS), 5, np.float32), xp.zeros((rows, 4), np.int32)
    out = launch("sum_pool_forward", features, background, table, coordinates, False)
    np.testing.assert_array_equal(get(out[-2:]), [get(features).sum(axis=0), get(features)[0] + 5])


def test_segment_sums_and_maxima(xp, rows):
    values = marked(xp, rows)
    splits = xp.asarray(np.array([0, rows - 2, rows]))
    np.testing.assert_array_equal(get(launch("segment_sum", values, splits)), [np.ones(CHANNELS), LAST])
    largest, where = launch("segment_max", values, splits)
    np.testing.assert_array_equal(get(largest), [np.ones(CHANNELS), np.zeros(CHANNELS)])
    assert get(where).tolist() == [[0] * CHANNELS, [rows - 2] * CHANNELS]


def test_points(xp, rows):
    """A row for each point, and a group for each row, in the same order; the last two rows are exchanged."""
    features = xp.asarray(np.stack([np.ones(CHANNELS, np.float32), LAST]))
    named = xp.zeros((rows, 1), np.int32)
    named[-1] = 1
    out = launch("interpolate_rows", features, named, None, None, None)
    np.testing.assert_array_equal(get(out[-2:]), [np.ones(CHANNELS), LAST])
    members, splits = xp.arange(rows), xp.arange(rows + 1)
    members[-2:] = xp.asarray(np.array([rows - 1, rows - 2]))
    np.testing.assert_array_equal(get(launch("group_sum", out, members, splits, None, False)[-2:]),
                                  [LAST, np.ones(CHANNELS)])


def test_rows_of_samples(xp, rows):
    values, coordinates = marked(xp, rows), xp.zeros((rows, 4), np.int32)
    coordinates[-1, 0] = 1
    added = xp.asarray(np.array([[1], [2]], np.float32) * np.ones(CHANNELS, np.float32))
    out = launch("add_sample_rows", values, added, coordinates)
    np.testing.assert_array_equal(get(out[-2:]), [np.ones(CHANNELS), LAST + 2])


def test_softmax_cross_entropy(xp, rows):
    logits = marked(xp, rows)
    logits[-1] *= -1
    loss, _, gradient = launch("softmax_cross_entropy", logits, xp.zeros(rows, np.int64), True)
    shares = np.exp(-LAST - CHANNELS)
    shares /= shares.sum()
    shares[0] -= 1
    np.testing.assert_allclose(get(gradient[-1]), shares / rows, rtol=1e-4, atol=1e-7 / rows)
    assert float(get(loss)) == pytest.approx(np.log(CHANNELS), rel=0.1)


def test_gradient_descent(xp, rows):
    parameter, gradient = (marked(xp, rows).reshape(-1) for _ in range(2))
    launch("sgd_step", [parameter], [gradient], None, None, 0.5, 0.0, 0.0, False, 0.0, 1.0)
    np.testing.assert_array_equal(get(parameter[-CHANNELS:]), LAST / 2)
    assert get(parameter[-2 * CHANNELS:-CHANNELS]).tolist() == [0] * CHANNELS


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_convolution_of_far_inputs_and_outputs(xp, rows, dtype):
    """Outputs beyond 2^31 elements from two inputs, then two outputs from inputs beyond 2^31 elements."""
    weight = xp.asarray(2 * np.eye(CHANNELS, dtype=dtype)[None])
    few = xp.asarray(np.stack([np.zeros(CHANNELS), LAST]).astype(dtype))
    table = xp.zeros((rows, 1), np.int32)
    table[-1] = 1
    out = launch("convolution_forward", few, weight, Table(table, 2), None)
    np.testing.assert_array_equal(get(out[-2:]), [np.zeros(CHANNELS), 2 * LAST])
    del out
    features = marked(xp, rows).astype(dtype)
    near = Table(xp.asarray(np.array([[0], [rows - 1]], np.int32)), rows)
    np.testing.assert_array_equal(get(launch("convolution_forward", features, weight, near, None))[1], 2 * LAST)
    gradient = launch("convolution_weight_gradient", features, few, near)
    np.testing.assert_array_equal(get(gradient)[0], np.outer(LAST, LAST))


def test_a_table_of_neighbours(xp, far):
    side = 448 if far else 6  # 27 side^3 entries, all filled within
    count = side**3
    sites = ActiveSites.from_keys(xp.arange(count, dtype=np.int64), (side,) * 3, 1)
    table = sites.rulebook(Geometry.make_submanifold(3, 3)).neighbours
    steps = [(k // 9 - 1) * side**2 + (k // 3 % 3 - 1) * side + k % 3 - 1 for k in range(27)]
    inner = count - 1 - side**2 - side - 1
    np.testing.assert_array_equal(get(table[inner]), inner + np.array(steps))
    there = [all(part <= 1 for part in (k // 9, k // 3 % 3, k % 3)) for k in range(27)]
    np.testing.assert_array_equal(get(table[-1]), np.where(there, count - 1 + np.array(steps), -1))


def test_coordinates_of_sites(xp, far):
    count = 2**29 + 3 if far else FEW  # four numbers each
    last = 830**3 - 1
    keys = xp.arange(last + 1 - count, last + 1, dtype=np.int64)
    coordinates = launch("site_coordinates", keys, (830, 830, 830))
    assert get(coordinates[-1]).tolist() == [0, 829, 829, 829] and get(coordinates[-2]).tolist() == [0, 829, 829, 828]
