"""The matrix product: right, the same for any number of threads, and defined for empty matrices."""

from types import SimpleNamespace

import numpy as np
import pytest
from cuda_host.storage import each_storage
from reference import assert_close

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads

SHAPES = [(1, 1, 1), (7, 5, 3), (64, 192, 40), (1000, 1, 1), (5000, 64, 96), (33, 1000, 1), (1, 300, 70)]


KERNELS = pytest.mark.parametrize("kernel", ["matmul", "matmul_by_row"])


@pytest.fixture
def threads():
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)


@each_storage
@KERNELS
@pytest.mark.parametrize("rows, depth, columns", SHAPES)
def test_equals_numpy_in_float64(launch, kernel, rows, depth, columns, dtype, rng):
    a, b = rng.standard_normal((rows, depth)).astype(dtype), rng.standard_normal((depth, columns)).astype(dtype)
    out = launch(kernel, a, b)
    assert out.dtype == dtype and out.flags.c_contiguous
    assert_close(out, a.astype(np.float64) @ b.astype(np.float64))


@KERNELS
@pytest.mark.parametrize("rows, depth, columns", [(5000, 64, 96), (20_000, 256, 32), (33, 1000, 1)])
def test_bits_do_not_depend_on_the_number_of_threads(kernel, rows, depth, columns, dtype, rng, threads):
    a, b = rng.standard_normal((rows, depth)).astype(dtype), rng.standard_normal((depth, columns)).astype(dtype)
    results = []
    for number in (1, 2, 3):
        threads(number)
        results.append(kernels.launch(kernel, a, b))
    assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("depth, columns", [(192, 40), (7, 1), (1, 9), (1536, 192), (64, 64)])
def test_by_row_a_row_has_the_same_bits_in_every_company(depth, columns, dtype, rng):
    a, b = rng.standard_normal((700, depth)).astype(dtype), rng.standard_normal((depth, columns)).astype(dtype)
    together = kernels.launch("matmul_by_row", a, b)
    for chosen in (slice(0, 1), slice(5, 7), slice(3, 35), slice(640, 700), slice(None, None, -1)):
        part = np.ascontiguousarray(a[chosen])
        assert np.array_equal(kernels.launch("matmul_by_row", part, b), together[chosen])


@KERNELS
@pytest.mark.parametrize("rows, depth, columns", [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0)])
def test_empty_operands(launch, kernel, rows, depth, columns, dtype):
    out = launch(kernel, np.ones((rows, depth), dtype), np.ones((depth, columns), dtype))
    assert out.shape == (rows, columns) and out.dtype == dtype and not out.any()


@KERNELS
def test_inputs_stay_untouched(launch, kernel, rng):
    a, b = rng.standard_normal((40, 30)), rng.standard_normal((30, 20))
    before = a.copy(), b.copy()
    launch(kernel, a, b)
    assert np.array_equal(a, before[0]) and np.array_equal(b, before[1])


def test_one_number_of_float16_is_added_up_in_float32_on_a_gpu(monkeypatch):
    """CuPy's own product of a row and a column adds up in float16, in which 2048 + 1 is 2048."""
    kernels.find("matmul").on("cuda")
    from sparsenet.kernels.matmul import cuda

    monkeypatch.setattr(cuda, "array_module", lambda _: SimpleNamespace(matmul=None))
    row = np.ones((1, 4096), np.float16)
    assert kernels.launch("matmul", row, row.T, backend="cuda").tolist() == [[4096]]


def test_misfits_raise():
    ones = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"matmul: b has shape \(4, 3\)"):
        kernels.launch("matmul", ones, ones)
    with pytest.raises(ValueError, match="not C-contiguous"):
        kernels.launch("matmul", ones, ones.T)
    with pytest.raises(TypeError, match="b is float64 but a is float32"):
        kernels.launch("matmul", ones, np.ones((3, 2)))
