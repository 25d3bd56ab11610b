"""The record of matrix products within compiled code."""

import numpy as np
import pytest
from convolution_cases import Table, through

import sparsenet as sn
from sparsenet.kernels import launch
from sparsenet.kernels.cpu import blas, product_record
from sparsenet.kernels.cpu.product_record import recorded_products


@pytest.fixture(autouse=True)
def two_threads():
    before = sn.get_num_threads()
    sn.set_num_threads(2)
    with through("neighbours"):
        yield
    sn.set_num_threads(before)


def table_case(dtype=np.float32):
    rng = np.random.default_rng(0)
    rulebook = Table(rng.integers(-1, 900, (1000, 8)).astype(np.int32), 900)
    return rng.random((900, 4), np.float32).astype(dtype), rng.random((8, 4, 6), np.float32).astype(dtype), rulebook


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_product_is_seen_and_none_is_changed(dtype):
    features, weights, rulebook = table_case(dtype)
    expected = launch("convolution_forward", features, weights, rulebook, None)
    with recorded_products() as products:
        out = launch("convolution_forward", features, weights, rulebook, None)
        assert products == []  # filled at the end
    assert np.array_equal(out, expected)
    assert sum(one.m for one in products) == 1000
    assert all((one.k, one.n, one.transposed) == (32, 6, False) and 0 < one.seconds < 1 for one in products)


def test_a_transposed_left_factor_is_told_apart():
    features, _, rulebook = table_case()
    with recorded_products() as products:
        launch("convolution_weight_gradient", features, np.ones((1000, 6), np.float32), rulebook)
    assert sum(one.k for one in products) == 1000
    assert all((one.m, one.n, one.transposed) == (32, 6, True) for one in products)


def test_each_thread_has_lines_of_its_own():
    sn.set_num_threads(8)
    for _ in range(5):
        with recorded_products() as products:
            launch("convolution_forward", *table_case(), None)
        assert sum(one.m for one in products) == 1000


def test_the_loop_is_put_back():
    plain = blas.product_loop
    with pytest.raises(KeyError), recorded_products():
        assert blas.product_loop is not plain
        raise KeyError
    assert blas.product_loop is plain


def test_more_products_than_lines_raise(monkeypatch):
    monkeypatch.setattr(product_record, "_LINES", 2)
    with pytest.raises(RuntimeError, match="recorded_products: more than 2 products .*record less"):
        with recorded_products():
            for _ in range(3):
                launch("convolution_forward", *table_case(), None)
