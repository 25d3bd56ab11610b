"""The matrix product: right, the same for any number of threads, and fine with nothing to do."""

import numpy as np
import pytest
from cuda_host.storage import each_storage
from reference import assert_close

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads

SHAPES = [(1, 1, 1), (7, 5, 3), (64, 192, 40), (1000, 1, 1), (5000, 64, 96), (33, 1000, 1), (1, 300, 70)]


@pytest.fixture
def threads():
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)


@each_storage
@pytest.mark.parametrize("rows, depth, columns", SHAPES)
def test_equals_numpy_in_float64(launch, rows, depth, columns, dtype, rng):
    a, b = rng.standard_normal((rows, depth)).astype(dtype), rng.standard_normal((depth, columns)).astype(dtype)
    out = launch("matmul", a, b)
    assert out.dtype == dtype and out.flags.c_contiguous
    assert_close(out, a.astype(np.float64) @ b.astype(np.float64))


@pytest.mark.parametrize("rows, depth, columns", [(5000, 64, 96), (20_000, 256, 32), (33, 1000, 1)])
def test_bits_do_not_depend_on_the_number_of_threads(rows, depth, columns, dtype, rng, threads):
    a, b = rng.standard_normal((rows, depth)).astype(dtype), rng.standard_normal((depth, columns)).astype(dtype)
    results = []
    for number in (1, 2, 3):
        threads(number)
        results.append(kernels.launch("matmul", a, b))
    assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("rows, depth, columns", [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0)])
def test_empty_operands(launch, rows, depth, columns, dtype):
    out = launch("matmul", np.ones((rows, depth), dtype), np.ones((depth, columns), dtype))
    assert out.shape == (rows, columns) and out.dtype == dtype and not out.any()


def test_inputs_stay_untouched(launch, rng):
    a, b = rng.standard_normal((40, 30)), rng.standard_normal((30, 20))
    before = a.copy(), b.copy()
    launch("matmul", a, b)
    assert np.array_equal(a, before[0]) and np.array_equal(b, before[1])


def test_misfits_raise():
    ones = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"matmul: b has shape \(4, 3\)"):
        kernels.launch("matmul", ones, ones)
    with pytest.raises(ValueError, match="not C-contiguous"):
        kernels.launch("matmul", ones, ones.T)
    with pytest.raises(TypeError, match="b is float64 but a is float32"):
        kernels.launch("matmul", ones, np.ones((3, 2)))
