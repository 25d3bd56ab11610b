"""Convolutions by Hopper's wgmma, on the host and on a GPU that has it: against float64, for all shapes."""

from dataclasses import replace

import numpy as np
import pytest
from convolution_cases import Table, case, forward, rounded, weight_gradient
from cuda_host import device

import sparsenet as sn
from sparsenet.backend import to_device
from sparsenet.kernels.convolution import order as convolution_order
from sparsenet.kernels.convolution import wgmma as convolution_wgmma
from sparsenet.kernels.counting import counting
from sparsenet.kernels.cuda import tiles
from sparsenet.kernels.cuda.source import use_driver

COMMITTED = tiles.load_tile_table(tiles.COMMITTED)
CUDA = ["cuda", *([] if device.missing() else [pytest.param("gpu", marks=pytest.mark.gpu)])]
# N, M, K, C_in, C_out
SHAPES = [(300, 600, 4, 64, 64), (90, 270, 27, 20, 36), (50, 70, 3, 130, 33), (40, 300, 2, 72, 160), (9, 5, 32, 8, 1),
          (30, 257, 3, 128, 128)]
TOLERANCE = 1e-5  # of float32's sums, over the largest


@pytest.fixture(autouse=True)
def by_wgmma(backend):
    """Every product, no matter how small, uses these kernels."""
    before = sn.get_float32_matmul_precision()
    with tiles.using(replace(COMMITTED, wgmma_work=1, wgmma_architectures=("any", "sm_90"))):
        yield
    sn.set_float32_matmul_precision(before)
    convolution_order.forget_orders()


on_cuda = pytest.mark.parametrize("backend", CUDA, indirect=True)
# All shapes in one precision, two in the others, which share their columns: a variant takes the compiler long.
CASES = [*(("fp16", shape) for shape in SHAPES), *((other, shape) for other in ("tf32", "bf16", "stored")
                                                   for shape in SHAPES[:2])]


def operands(precision, shape, **settings):
    """A case in its stored dtype, and its numbers as the tensor cores read them."""
    rulebook, *arrays = case(*shape, **settings)
    if precision == "stored":
        sn.set_float32_matmul_precision("highest")
        arrays = [array.astype(np.float16) for array in arrays]
        return rulebook, arrays, [array.astype(np.float32) for array in arrays]
    sn.set_float32_matmul_precision(precision)
    return rulebook, arrays, [*(rounded(array, precision) for array in arrays[:3]), arrays[3]]


def assert_near(out, expected, precision):
    """float16 results are rounded once more."""
    largest = max(np.abs(expected).max(initial=0), 1e-30)
    assert np.abs(out.astype(np.float64) - expected).max(initial=0) <= largest * (1e-3 if precision == "stored"
                                                                                  else TOLERANCE)


@on_cuda
@pytest.mark.parametrize(("precision", "shape"), CASES)
def test_forward(launch, precision, shape):
    rulebook, arrays, exact = operands(precision, shape)
    features, weights, _, constant = arrays
    for given in (constant, None):
        with counting() as counts:
            out = launch("convolution_forward", features, weights, rulebook, given)
        assert out.dtype == features.dtype and counts.launches["convolution_forward_wgmma"]
        assert_near(out, forward(exact[0], exact[1], rulebook, None if given is None else exact[3]), precision)


@on_cuda
@pytest.mark.parametrize(("precision", "shape"), [one for one in CASES if one[0] != "tf32"])
def test_weight_gradient(launch, precision, shape):
    rulebook, arrays, exact = operands(precision, shape)
    with counting() as counts:
        out = launch("convolution_weight_gradient", arrays[0], arrays[2], rulebook)
    assert out.dtype == arrays[0].dtype and counts.launches["convolution_weight_gradient_wgmma"]
    assert_near(out, weight_gradient(exact[0], exact[2], rulebook), precision)


@on_cuda
@pytest.mark.parametrize("filled", [0.0, 0.002, 1.0])
def test_tiles_without_offsets_and_full_ones(launch, filled):
    rulebook, arrays, exact = operands("fp16", (60, 1100, 5, 16, 24), filled=filled)
    rulebook.neighbours[256:512] = -1  # a tile of its own, if rows are taken as they lie
    features, weights, gradient, constant = arrays
    assert_near(launch("convolution_forward", features, weights, rulebook, constant),
                forward(exact[0], exact[1], rulebook, constant), "fp16")
    assert_near(launch("convolution_weight_gradient", features, gradient, rulebook),
                weight_gradient(exact[0], exact[2], rulebook), "fp16")


@on_cuda
@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_bits_depend_neither_on_the_order_of_rows_nor_on_the_blocks(launch, monkeypatch, precision):
    rulebook, (features, weights, _, constant), _ = operands(precision, (80, 800, 6, 40, 48), filled=0.3)
    results = []
    for order_work, blocks in ((1 << 60, 1), (1, 2), (1, 5)):
        convolution_order.forget_orders()
        monkeypatch.setattr(convolution_wgmma, "multiprocessors", lambda array, blocks=blocks: blocks)
        with tiles.using(replace(tiles.tile_table(), order_work=order_work, order_window=300)):
            results.append(launch("convolution_forward", features, weights, rulebook, constant))
    assert all(np.array_equal(results[0], other) for other in results[1:])


@on_cuda
def test_lists(backend, request):
    neighbours = case(60, 700, 7, 8, 8, filled=0.01)[0].neighbours
    order = np.random.default_rng(1).permutation(700).astype(np.int32)
    if backend == "gpu":
        made = convolution_order.tile_lists(to_device(neighbours, "cuda"), to_device(order, "cuda"))
    else:
        with use_driver(request.getfixturevalue("host_driver")):
            made = convolution_order.tile_lists(neighbours, order)
    lists, masks, outputs = (device.to_host(one) for one in (made.lists, made.masks, made.outputs))
    assert made.tiles == 3 and outputs[:700].tolist() == order.tolist() and (outputs[700:] == -1).all()
    padded = np.full((768, 7), -1, np.int32)
    padded[:700] = neighbours[order]
    assert np.array_equal(lists, padded.reshape(3, 256, 7).transpose(0, 2, 1))
    expected = ((padded.reshape(3, 256, 7) >= 0).any(1) << np.arange(7)).sum(1)
    assert masks.tolist() == expected.tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("backend", [one for one in CUDA if one != "cuda"], indirect=True)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("channels", [64, 128])
def test_a_large_product_has_the_same_bits_fifty_times(launch, backend, channels, dtype):
    """A race would show here: all multiprocessors are busy with many tiles, stages and lists go round many times."""
    from sparsenet.backend import cupy

    xp = cupy()
    rng = xp.random.default_rng(0)
    near = (xp.arange(200_000)[:, None] + rng.integers(0, 4000, (200_000, 27))) % 200_000
    rulebook = Table(xp.where(rng.random((200_000, 27)) < 0.6, near, -1).astype("int32"), 200_000)
    features, gradient = (rng.standard_normal((200_000, channels), dtype="float32").astype(dtype) for _ in range(2))
    weights = rng.standard_normal((27, channels, channels), dtype="float32").astype(dtype)
    sn.set_float32_matmul_precision("fp16" if dtype == "float32" else "highest")
    first = None
    for _ in range(50):
        results = (sn.kernels.launch("convolution_forward", features, weights, rulebook, None),
                   sn.kernels.launch("convolution_weight_gradient", features, gradient, rulebook))
        first = first or results
        assert all(bool((one == other).all()) for one, other in zip(first, results, strict=True))
