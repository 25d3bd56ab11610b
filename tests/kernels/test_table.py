"""The seam: arguments are checked before anything runs, and an error says what to do."""

import numpy as np
import pytest
from convolution_cases import Table

import sparsenet as sn
from sparsenet.kernels import find, launch
from sparsenet.kernels.table import names


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_every_kernel_has_an_implementation_where_its_contract_says(name, backend):
    kernel = find(name)
    stands, expected = kernel.on(backend).__module__, f"sparsenet.kernels.{kernel.modules[backend]}"
    family = expected.rpartition(".")[0]  # whose cpu.py may import it from a file beside itself
    assert stands == expected or backend == "cpu" and stands.rpartition(".")[0] == family
    assert kernel.formula and "\n" not in kernel.formula
    assert repr(kernel).startswith(f"{name}(") and repr(kernel).endswith(kernel.formula)


def test_unknown_kernel():
    with pytest.raises(KeyError, match="no kernel named 'convolve'"):
        launch("convolve")


class OnGpu(Table):
    device = property(lambda self: "cuda", lambda self, value: None)


def arguments(**changes):
    given = {
        "features": np.zeros((5, 3), np.float32),
        "weights": np.zeros((8, 3, 4), np.float32),
        "rulebook": Table(np.zeros((6, 8), np.int32), 5),
        "constant": None,
    }
    return (given | changes).values()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"features": np.zeros((5, 2), np.float32)}, ValueError, r"weights has shape \(8, 3, 4\).*C_in = 2 by feat"),
        ({"features": np.zeros((5, 3), np.float16)}, TypeError, "features is float16, .*to float32 or move to cuda"),
        ({"weights": np.zeros((8, 3, 4))}, TypeError, "weights is float64 but features is float32"),
        ({"rulebook": np.zeros((6, 8), np.int32)}, TypeError, "rulebook is ndarray, expected a Rulebook"),
        ({"rulebook": Table(np.zeros((6, 8), np.int32), 4)}, ValueError, r"rulebook has shape \(4, 6, 8\).*N = 5"),
        ({"rulebook": Table(np.zeros((6, 7), np.int32), 5)}, ValueError, r"rulebook has shape \(5, 6, 7\).*K = 8"),
        ({"rulebook": OnGpu(np.zeros((6, 8), np.int32), 5)}, TypeError, "rulebook is on cuda, the arrays are on cpu"),
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
    with pytest.raises(TypeError, match="expected 3 arguments .x, slope, background., got 1"):
        launch("leaky_relu_forward", np.zeros((1, 1)))


def test_optional_arguments_at_the_end_may_be_left_out():
    x = np.ones((1, 1))
    assert launch("leaky_relu_forward", x, 0.5) == launch("leaky_relu_forward", x, 0.5, None) == x


def test_wrong_scalar():
    with pytest.raises(TypeError, match="slope is str, expected float"):
        launch("leaky_relu_forward", np.zeros((1, 1)), "0.33")


@pytest.mark.parametrize(("size", "error", "message"), [
    ((4, 4), ValueError, r"spatial_size has shape \(2,\), expected \(3\)"),
    ([4, 4, 4], TypeError, r"spatial_size is \[4, 4, 4\], expected a tuple of 3 integers"),
    ((4, 4.5, 4), TypeError, ".*expected a tuple of 3 integers"),
])
def test_wrong_integers(size, error, message):
    with pytest.raises(error, match="fill_solid: " + message):
        launch("fill_solid", np.zeros((1, 3), np.int32), size)


def test_there_is_no_fallback_to_another_backend():
    with pytest.raises(NotImplementedError, match="no implementation for backend 'vulkan'"):
        launch("leaky_relu_forward", np.zeros((1, 1)), 0.33, backend="vulkan")


def test_out_of_memory_names_the_kernel(monkeypatch):
    def exhausted(*arguments):
        raise MemoryError("Out of memory allocating 8,000,000,000 bytes")

    find("leaky_relu_forward").on("cpu")
    monkeypatch.setitem(find("leaky_relu_forward").implementations, "cpu", exhausted)
    with pytest.raises(MemoryError, match="8,000,000,000 bytes") as caught:
        launch("leaky_relu_forward", np.zeros((1, 1)), 0.33)
    assert caught.value.__notes__ == ["in the kernel leaky_relu_forward on cpu"]


def test_out_of_memory_names_the_layer_and_the_operation_of_a_backward_pass(monkeypatch):
    def exhausted(*arguments):
        raise MemoryError

    layer, x = sn.nn.LeakyReLU(0.33), sn.Tensor(np.zeros((1, 1)), requires_grad=True)
    y = layer(x)
    for name in ("leaky_relu_forward", "leaky_relu_backward"):
        find(name).on("cpu")
        monkeypatch.setitem(find(name).implementations, "cpu", exhausted)
    with pytest.raises(MemoryError) as forward:
        layer(x)
    with pytest.raises(MemoryError) as backward:
        y.backward()
    assert forward.value.__notes__[-1] == "in the layer LeakyReLU(0.33)"
    assert backward.value.__notes__[-1] == "in the backward pass of LeakyReLU"
