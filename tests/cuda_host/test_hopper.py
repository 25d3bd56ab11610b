"""Hopper's instructions on the host: a product by a ring of slots is right, and with a fault planted it is caught."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sparsenet.kernels.cuda.source import MAX_SHARED, CudaSource, use_driver
from sparsenet.teach.cuda_host.host_driver import HostError

FOLDER = Path(__file__).parent
SOURCE = CudaSource("planted_hopper", FOLDER)
TEXT = SOURCE.path.read_text(encoding="utf-8")
FAULTS = {name: number for number, name in enumerate(re.findall(r"^    ([A-Z_]+),", TEXT, re.MULTILINE))}
PRODUCTS = ["wgmma_tf32", "wgmma_half", "wgmma_bfloat", "wgmma_half_mn_major", "wgmma_bfloat_mn_major"]


def bits_of(x: np.ndarray, product: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers as stored for a product, and as the product reads them, in float64."""
    if "tf32" in product:
        words = x.astype(np.float32).view(np.uint32)
        return words, (words & 0xFFFFE000).view(np.float32).astype(np.float64)
    if "half" in product:
        halves = x.astype(np.float16)
        return halves.view(np.uint16), halves.astype(np.float64)
    words = x.astype(np.float32).view(np.uint32) & 0xFFFF0000
    return (words >> 16).astype(np.uint16), words.view(np.float32).astype(np.float64)


def laid_out(b: np.ndarray, mn_major: bool) -> np.ndarray:
    """b (columns, depth) as it lies in shared memory, chunk by chunk: rows of 128 bytes with their pieces swizzled."""
    per_row = 128 // b.itemsize
    if mn_major:  # rows along the columns, 64 of them
        b = np.concatenate([b, np.zeros((-len(b) % 64, b.shape[1]), b.dtype)])
        rows = b.reshape(len(b) // 64, 64, -1, 64).transpose(2, 0, 3, 1)  # chunk, block, depth, column
    else:
        rows = b.reshape(len(b), -1, per_row).transpose(1, 0, 2)
    pieces = np.ascontiguousarray(rows).view(np.uint8).reshape(-1, 8, 8, 16)  # of 8 rows each
    row, place = np.ogrid[:8, :8]
    return pieces[:, row, place ^ row].reshape(rows.shape[0], -1)


@pytest.fixture
def run(host_driver, rng, monkeypatch):
    """run(product, columns, groups=1, chunks=3, stages=2, polls=False, fault="NONE", shared_bytes=None): the result
    and the expected one."""
    monkeypatch.setattr(host_driver, "few", None)

    def run(product: str, columns: int, groups: int = 1, chunks: int = 3, stages: int = 2, polls: bool = False,
            fault: str = "NONE", shared_bytes: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        mn_major = "mn_major" in product
        depth = chunks * (32 if "tf32" in product else 64)
        (a, a_values), (b, b_values) = (bits_of(rng.standard_normal((rows, depth)), product)
                                        for rows in (64 * groups, columns))
        out = rng.standard_normal((64 * groups, columns)).astype(np.float32)
        expected = out + a_values @ b_values.T
        given = np.ascontiguousarray(a.T if mn_major else a)
        shared = laid_out(b, mn_major)
        needed = stages * (groups * 8192 + shared.shape[1] + 16) + 32
        kernel = SOURCE.kernel("ring_product", PRODUCT=product, MN_MAJOR=int(mn_major), COLUMNS=columns, SLOTS=stages)
        with use_driver(host_driver):
            kernel(1, 128 * (groups + 1), given.view(np.uint8), shared, given.strides[0], chunks, polls, FAULTS[fault],
                   out, shared_bytes=shared_bytes or needed)
        return out, expected

    return run


class TestRightKernels:
    @pytest.mark.parametrize("columns", [32, 64, 96, 128])
    @pytest.mark.parametrize("product", PRODUCTS)
    def test_the_product_of_a_ring(self, run, product, columns):
        out, expected = run(product, columns)
        np.testing.assert_allclose(out, expected, rtol=0, atol=2e-5)

    def test_two_warpgroups_that_ask_for_barriers_again_and_again(self, run):
        out, expected = run("wgmma_half", 64, groups=2, chunks=5, stages=3, polls=True)
        np.testing.assert_allclose(out, expected, rtol=0, atol=4e-5)

    def test_all_of_shared_memory(self, run):
        out, expected = run("wgmma_bfloat", 128, groups=3, chunks=7, stages=5, shared_bytes=MAX_SHARED)
        np.testing.assert_allclose(out, expected, rtol=0, atol=4e-5)


FOUND = {
    "NO_PROXY_FENCE": "wgmma_half, line .*an asynchronous copy of a thread has come here, and no fence_proxy_async",
    "PROXY_FENCE_TOO_EARLY": "wgmma_half, line .*an asynchronous copy of a thread .* and no fence_proxy_async",
    "PLAIN_STORE_UNFENCED": "wgmma_half, line .*a thread has written here, and there has been no fence_proxy_async",
    "RELEASED_TOO_EARLY": "wgmma_half, line .*operand [ab] has changed at byte .* while the product is under way",
    "SUMS_READ_TOO_EARLY": "order: argument out differs",
    "SUMS_WRITTEN_TOO_EARLY": "the sums have been written while the product of line .* is under way",
    "NO_FENCE": "wgmma_half, line .*no wgmma_fence since the sums were the thread's own",
    "FENCE_BEFORE_SUMS": "wgmma_half, line .*no wgmma_fence since the sums were written",
    "NO_WAIT": r"thread \d+ ends, and has not waited for its product of line .* \(wgmma_wait_group\)",
    "ARRIVAL_MISSING": r"(?s)in vain:.*wait at mbarrier_wait, line \d+, for parity 0 of the barrier of line \d+, whose "
                       r"phase 0 lacks 1 of 129 arrivals and 0 bytes",
    "ARRIVAL_TOO_MANY": "the barrier of line .* has had its 129 arrivals",
    "BYTES_MISSING": r"(?s)in vain:.*mbarrier_wait, .* for parity 0 .* lacks 0 of 129 arrivals and 16 bytes",
    "BULK_MISALIGNED": "copy_bulk, line .*: an address is not aligned to 16 bytes",
    "BULK_ODD": r"copy_bulk, line .*: \d+ bytes are not a multiple of 16",
    "BULK_UNWAITED": "copy_bulk, line .*: still under way when the block ends",
    "NO_INIT_FENCE": "copy_bulk, line .*: no mbarrier_init_fence since the barrier of line",
    "NO_INIT": "line .*: no barrier has been initialised here",
    "OVERWRITTEN_BARRIER": "line .*: the barrier of line .* has been overwritten",
    "THREE_WARPS": "(?s)in vain:.*wait at wgmma_wait_group, line .* which 96 of the 128 threads",
    "TWO_LINES": "wgmma_half, line .*other threads of its warpgroup are at wgmma_half, line",
    "OTHER_OPERANDS": "wgmma_half, line .*other threads of its warpgroup have other operands",
    "MISALIGNED_OPERAND": "wgmma_half, line .*operand a does not begin at a multiple of 1024",
    "WRONG_MAJOR": "wgmma_half, line .*operand a is mn_major",
    "BEYOND_SHARED": "wgmma_half, line .*operand b goes beyond dynamic shared memory",
}


class TestFaultsAreCaught:
    @pytest.mark.parametrize("fault", FOUND)
    def test_it_is_named(self, run, fault):
        with pytest.raises(HostError, match=FOUND[fault]):
            run("wgmma_half", 64, chunks=4, fault=fault)

    def test_asking_in_vain_is_reported(self, run):
        with pytest.raises(HostError, match="(?s)in vain:.*ask again and again at mbarrier_test.* lacks 1 of 129"):
            run("wgmma_half", 64, polls=True, fault="ARRIVAL_MISSING")

    def test_pieces_that_are_not_swizzled_give_another_product(self, run):
        out, expected = run("wgmma_half", 64, fault="WRONG_SWIZZLE")
        assert np.abs(out - expected).max() > 1

    def test_each_fault_is_tried(self):
        assert {*FAULTS} == {*FOUND, "NONE", "WRONG_SWIZZLE"}
