"""Elementwise functions, reductions and shapes of Tensors on the device: as on the CPU, and without a wait."""

from __future__ import annotations

import numpy as np
import pytest

import sparsenet as sn
from sparsenet.backend import to_device
from sparsenet.kernels import counting

FUNCTIONS = {
    "exp": lambda x, y: x.exp(), "log": lambda x, y: abs(x).log(), "sqrt": lambda x, y: abs(x).sqrt(),
    "tanh": lambda x, y: x.tanh(), "sigmoid": lambda x, y: x.sigmoid(), "clip": lambda x, y: x.clip(-0.5, 1),
    "clip below": lambda x, y: x.clip(min=0), "maximum": sn.maximum, "minimum": lambda x, y: sn.minimum(x, 0.25),
    "where": lambda x, y: sn.where(x > y, x, y * 2), "where number": lambda x, y: sn.where(x > 0, x, 0),
    "max": lambda x, y: x.max(), "max of an axis": lambda x, y: x.max(axis=1, keepdims=True),
    "min": lambda x, y: x.min(axis=(0, 1)), "first axis": lambda x, y: x.min(0), "T": lambda x, y: x.T,
    "permute": lambda x, y: x.reshape(2, 3, 2).permute(2, 0, 1), "clone": lambda x, y: x.clone(),
    "concatenate": lambda x, y: sn.concatenate([x, y, x], axis=1), "stack": lambda x, y: sn.stack([x, y], 1),
    "mask": lambda x, y: ((x > 0) & ~(y > 0)) * x + 1, "integers": lambda x, y: x * to_device(np.arange(4), x.device),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_values_and_gradients_are_those_of_the_cpu(name, dtype, cuda, rng):
    arrays = [rng.standard_normal((3, 4)), rng.standard_normal((3, 4))]
    results = []
    for where, number in ((cuda, dtype), ("cpu", "float64")):
        x, y = (sn.Tensor(to_device(array.astype(dtype).astype(number), where), requires_grad=True) for array in arrays)
        with counting() as counts:
            out = FUNCTIONS[name](x, y)
            out.backward(out.detach())
        assert counts.waits == 0 and out.device == where and out.dtype == x.grad.dtype == number
        results.append([out.numpy(), *(to_device(one.grad, "cpu") for one in (x, y) if one.grad is not None)])
    for given, expected in zip(*results, strict=True):
        np.testing.assert_allclose(given, expected, rtol=2e-2 if dtype == "float16" else 1e-5, atol=1e-3)


def test_indices_and_numbers(cuda):
    x = sn.Tensor(to_device(np.array([[1.0, 3.0, 3.0], [2.0, 0.0, 2.0]], np.float32), cuda))
    assert x.argmax(axis=1).device == cuda and x.argmax(axis=1).tolist() == [1, 0] and int(x.argmin()) == 4
    assert x.argmax(0, keepdims=True).tolist() == [[1, 0, 0]]
    assert f"{x.sum():.1f}" == "11.0" and x.tolist() == [[1, 3, 3], [2, 0, 2]]
    ties = sn.Tensor(x.array, requires_grad=True)
    (ties.max(1) + ties.max()).sum().backward()
    assert ties.numpy() is not None and to_device(ties.grad, "cpu").tolist() == [[0, 2, 1], [1, 0, 0]]


def test_tensors_go_to_the_device_and_back_differentiably(cuda):
    x = sn.Tensor(np.array([1.0, 2.0], np.float32), requires_grad=True)
    y = x.to(cuda, "float16")
    assert (y.device, y.dtype) == (cuda, np.float16)
    z = (y * y).to("cpu", np.float64)
    assert (z.device, z.dtype) == ("cpu", np.float64)
    z.sum().backward()
    assert type(x.grad) is np.ndarray and x.grad.dtype == np.float32 and x.grad.tolist() == [2, 4]


def test_sparse_arithmetic(cuda, rng):
    grids = rng.standard_normal((2, 2, 2, 5, 5)) * (rng.random((2, 2, 1, 5, 5)) < 0.4)
    x, y = (sn.SparseTensor.from_dense(grid.astype(np.float32)).to(cuda) for grid in grids)
    for result, expected in ((x - y, grids[0] - grids[1]), (x * y, grids[0] * grids[1]), (-x / 2, grids[0] / -2),
                             (np.float64(3) * x, 3 * grids[0])):
        assert result.device == cuda and result.dtype == np.float32
        np.testing.assert_allclose(result.to_dense().numpy(), expected, atol=1e-6)
