"""Arrays exchanged with other libraries by DLPack, without a copy."""

from __future__ import annotations

import numpy as np
import pytest

import sparsenet as sn
from sparsenet import Tensor


class Lender:
    """An array of another library: NumPy's, behind DLPack's two methods."""

    def __init__(self, array, device=(1, 0), error=None):
        self.lent, self.device, self.error = array, device, error

    def __dlpack__(self, **options):
        if self.error is not None:
            raise self.error
        return self.lent.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.device


@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "bool", "uint8"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)], ids=str)
def test_there_and_back_it_is_the_same_memory(kind, shape):
    array = np.ones(shape, kind)
    tensor = Tensor(Lender(array))
    assert tensor.dtype == kind and tensor.shape == shape and tensor.device == "cpu"
    found = np.from_dlpack(tensor)
    assert np.array_equal(found, array) and found.dtype == kind and tensor.__dlpack_device__() == (1, 0)
    if array.size:
        assert np.shares_memory(tensor.array, array) and np.shares_memory(found, array)


def test_strides_are_kept():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[::2, 1::2]
    tensor = Tensor(Lender(array), requires_grad=True)
    (tensor * tensor).sum().backward()
    assert np.array_equal(tensor.grad, 2 * array) and np.array_equal(np.from_dlpack(tensor.detach()), array)


def test_wherever_an_array_is_taken():
    coordinates, features = np.array([[0, 2], [0, 0]]), np.array([[2.0], [1.0]], np.float32)
    x = sn.SparseTensor(Lender(features), Lender(coordinates), (3,), 1)
    assert x.coordinates.tolist() == [[0, 0], [0, 2]] and x.features.tolist() == [[1], [2]]
    tensor = Tensor([1.0, 2.0], requires_grad=True)
    (tensor * tensor).backward(Lender(np.ones(2, np.float32)))
    tensor.array = Lender(np.zeros(2, np.float32))
    assert tensor.grad.tolist() == [2, 4] and tensor.tolist() == [0, 0]


def test_a_gradient_would_be_lost():
    tensor = Tensor([1.0], requires_grad=True)
    with pytest.raises(BufferError, match=r"requires a gradient, which another library would lose: give it \.detach"):
        np.from_dlpack(tensor)
    with pytest.raises(TypeError, match="expected a NumPy or CuPy array, got Tensor"):
        Tensor(tensor * 2)


@pytest.mark.parametrize("error", [BufferError("it requires a gradient"), RuntimeError("Unsupported dtype")])
def test_what_cannot_be_read_says_why(error):
    with pytest.raises(TypeError, match=f"the array is a .*Lender that cannot be read: {error}"):
        Tensor(Lender(np.ones(2), error=error))
    with pytest.raises(TypeError, match="array is complex128, expected real numbers"):
        Tensor(Lender(np.ones(2, complex)))


@pytest.mark.parametrize("device", [(2, 0), (13, 0)])
def test_of_a_gpu_it_goes_to_cupy(device, monkeypatch):
    class Module:
        @staticmethod
        def from_dlpack(value):
            return value.lent

    monkeypatch.setattr("sparsenet.backend.cupy", lambda: Module)
    array = np.ones(2)
    assert Tensor(Lender(array, device)).array is array


@pytest.mark.gpu
def test_memory_of_a_gpu():
    cupy = pytest.importorskip("cupy", reason="needs CuPy and a CUDA device")
    array = cupy.arange(3, dtype="float32")
    assert cupy.from_dlpack(Tensor(array)).data.ptr == array.data.ptr and Tensor(array).__dlpack_device__()[0] == 2


class TestTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch", reason="needs torch, which no extra brings: pip install torch")

    def test_both_ways(self, torch):
        theirs = torch.arange(6.0).reshape(2, 3)
        ours = Tensor(theirs)
        ours.array[0, 0] = 7
        ours.mark_modified()
        back = torch.from_dlpack(ours)
        back[1, 1] = 8
        assert theirs[0, 0] == 7 and theirs[1, 1] == 8 and ours.array[1, 1] == 8

    def test_what_it_does_not_lend(self, torch):
        with pytest.raises(TypeError, match=r"a torch.Tensor that cannot be read: .*detach"):
            Tensor(torch.zeros(2, requires_grad=True))
        with pytest.raises(TypeError, match="a torch.Tensor that cannot be read: .*dtype"):
            Tensor(torch.zeros(2, dtype=torch.bfloat16))
        with pytest.raises(BufferError, match="requires a gradient"):
            torch.from_dlpack(Tensor([1.0], requires_grad=True))
