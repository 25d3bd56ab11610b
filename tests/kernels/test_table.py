"""The seam: arguments are checked before anything runs, and an error says what to do."""

import numpy as np
import pytest

from sparsenet.kernels import find, launch
from sparsenet.kernels.table import FAMILIES


def test_every_listed_kernel_exists_on_the_cpu():
    for family, names in FAMILIES.items():
        for name in names:
            kernel = find(name)
            assert "cpu" in kernel.implementations, name
            assert kernel.implementations["cpu"].__module__ == f"sparsenet.kernels.{family}"


def test_unknown_kernel():
    with pytest.raises(KeyError, match="no kernel named 'convolve'"):
        launch("convolve")


def arguments(**changes):
    given = {
        "features": np.zeros((5, 3), np.float32),
        "weights": np.zeros((8, 3, 4), np.float32),
        "neighbours": np.zeros((6, 8), np.int32),
        "constant": None,
    }
    return (given | changes).values()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"features": np.zeros((5, 2), np.float32)}, ValueError, r"weights has shape \(8, 3, 4\).*C_in = 2 by features"),
        ({"features": np.zeros((5, 3), np.float16)}, TypeError, "features is float16, expected float32 or float64"),
        ({"weights": np.zeros((8, 3, 4))}, TypeError, "weights is float64 but features is float32"),
        ({"neighbours": np.zeros((6, 8), np.int64)}, TypeError, r"neighbours is int64, expected int32: .*astype"),
        ({"features": np.zeros((5, 6), np.float32)[:, ::2]}, ValueError, "features is not C-contiguous"),
        ({"features": np.zeros(5, np.float32)}, ValueError, r"features has shape \(5,\), expected \(N, C_in\)"),
        ({"features": [[1.0]]}, TypeError, "expected a NumPy or CuPy array, got list"),
        ({"features": None}, ValueError, "features is None"),
    ],
)
def test_wrong_arguments_are_named(changes, error, message):
    with pytest.raises(error, match="convolution_forward: " + message):
        launch("convolution_forward", *arguments(**changes))


def test_wrong_count_of_arguments():
    with pytest.raises(TypeError, match="expected 2 arguments .x, slope., got 1"):
        launch("leaky_relu_forward", np.zeros((1, 1)))


def test_wrong_scalar():
    with pytest.raises(TypeError, match="slope is str, expected float"):
        launch("leaky_relu_forward", np.zeros((1, 1)), "0.33")


def test_there_is_no_fallback_to_another_backend():
    with pytest.raises(NotImplementedError, match="no implementation for backend 'vulkan'"):
        launch("leaky_relu_forward", np.zeros((1, 1)), 0.33, backend="vulkan")
