"""The precision of float32 products: a setting of the process, with PyTorch's names."""

import numpy as np
import pytest
from convolution_cases import Table

import sparsenet as sn
from sparsenet.kernels import launch
from sparsenet.kernels.precision import operand_precision


@pytest.fixture(autouse=True)
def restore():
    yield
    sn.set_float32_matmul_precision("highest")


def test_float32_is_the_default():
    assert sn.get_float32_matmul_precision() == "highest"
    assert operand_precision(np.float32) == "float32"


@pytest.mark.parametrize(("given", "kept"), [("tf32", "tf32"), ("fp16", "fp16"), ("bf16", "bf16"), ("high", "tf32"),
                                             ("medium", "bf16"), ("highest", "highest")])
def test_names(given, kept):
    sn.set_float32_matmul_precision(given)
    assert sn.get_float32_matmul_precision() == kept
    assert operand_precision(np.float32) == ("float32" if kept == "highest" else kept)
    assert operand_precision(np.float64) == "float64"
    assert operand_precision(np.float16) == "fp16"  # what is stored, exactly


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="precision is 'half', expected one of highest, tf32, fp16, bf16"):
        sn.set_float32_matmul_precision("half")
    assert sn.get_float32_matmul_precision() == "highest"


def test_a_cpu_ignores_it():
    rng = np.random.default_rng(0)
    features, weights = rng.standard_normal((5, 3), np.float32), rng.standard_normal((2, 3, 4), np.float32)
    rulebook = Table(rng.permuted(np.tile(np.arange(-1, 5, dtype=np.int32)[:, None], 2), axis=0), 5)
    exact = launch("convolution_forward", features, weights, rulebook, None)
    sn.set_float32_matmul_precision("bf16")
    assert np.array_equal(launch("convolution_forward", features, weights, rulebook, None), exact)
