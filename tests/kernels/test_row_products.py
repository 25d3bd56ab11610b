"""Products of rows with a matrix: right, within their borders, and each row as if it were alone."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from reference import assert_close

from sparsenet.kernels.cpu.row_products import add_products


def case(rows, c_in, c_out, dtype, rng):
    """source, weights of two offsets, links to shuffled rows of `out`, which holds numbers already."""
    source, weights, out = (rng.standard_normal(shape).astype(dtype)
                            for shape in ((rows + 3, c_in), (2, c_in, c_out), (rows + 5, c_out)))
    links = np.stack([rng.integers(0, rows + 3, rows), rng.permutation(rows + 5)[:rows]], axis=1).astype(np.int32)
    return source, weights, links, out


@pytest.mark.parametrize("rows, c_in, c_out", [
    (0, 3, 4), (1, 1, 1), (2, 5, 3), (3, 0, 5), (5, 2, 0), (4, 7, 16), (9, 16, 17), (300, 20, 33), (6, 32, 64),
    (7, 31, 96), (5, 300, 129), (11, 600, 40)])
def test_links_bring_their_products(rows, c_in, c_out, dtype, rng):
    source, weights, links, out = case(rows, c_in, c_out, dtype, rng)
    expected = out.astype(float)
    expected[links[1:, 1]] += source[links[1:, 0]].astype(float) @ weights[1].astype(float)
    untouched = np.setdiff1d(np.arange(len(out)), links[1:, 1])
    before = out[untouched].copy()
    add_products(source, weights, 1, links, min(1, rows), rows, out)
    assert_close(out, expected)
    assert np.array_equal(out[untouched], before)


@pytest.mark.parametrize("c_out", [1, 3, 8, 16, 40, 63, 64, 100, 192])
@pytest.mark.parametrize("c_in", [1, 8, 27, 192, 500])
def test_a_row_has_the_same_bits_in_every_place_and_company(c_in, c_out, dtype, rng):
    source, weights, _, _ = case(600, c_in, c_out, dtype, rng)
    whole = np.stack([np.arange(600), np.arange(600)], axis=1).astype(np.int32)
    together = np.zeros((600, c_out), dtype)
    add_products(source, weights, 0, whole, 0, 600, together)
    for row, place in ((0, 1), (5, 0), (255, 2), (599, 3)):
        alone = np.zeros((4, c_out), dtype)
        add_products(source, weights, 0, np.array([[row, place]], np.int32), 0, 1, alone)
        moved = np.zeros((600, c_out), dtype)
        add_products(source, weights, 0, np.roll(whole, place + 1, axis=0), 0, 600, moved)
        assert np.array_equal(alone[place], together[row]) and np.array_equal(moved[row], together[row])


def test_an_element_is_one_chain_of_its_terms_upwards(rng):
    source, weights, links, _ = case(1, 40, 20, np.dtype("float64"), rng)
    whole = np.round(source * 8), np.round(weights * 8)  # products and sums are exact, fused or not
    out = np.zeros((6, 20))
    add_products(*whole, 0, links, 0, 1, out)
    assert np.array_equal(out[links[0, 1]], whole[0][links[0, 0]] @ whole[1][0])
    large = np.array([[2.0**60, 1.0, -(2.0**60)]])  # 1 is lost between them, unless it comes first or last
    ones, link = np.ones((1, 3, 1)), np.zeros((1, 2), np.int32)
    for order, expected in (([0, 1, 2], 0.0), ([0, 2, 1], 1.0)):
        out = np.zeros((1, 1))
        add_products(np.ascontiguousarray(large[:, order]), ones, 0, link, 0, 1, out)
        assert out[0, 0] == expected


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="an older processor of another kind")
def test_a_processor_without_fused_instructions_multiplies_and_adds(tmp_path):
    script = """if True:
        import numpy as np
        from sparsenet.kernels.cpu import row_products
        assert not row_products._FUSED and row_products._STRIP_BYTES == 64
        a, b = np.random.default_rng(0).standard_normal((9, 30)), np.random.default_rng(1).standard_normal((1, 30, 27))
        links = np.repeat(np.arange(9), 2).reshape(9, 2).astype(np.int32)
        out, alone = np.zeros((9, 27)), np.zeros((9, 27))
        row_products.add_products(a, b, 0, links, 0, 9, out)
        total = np.zeros((9, 27))
        for c in range(30):
            total += a[:, c, None] * b[0, c]  # rounded twice
        assert np.array_equal(out, total)
        row_products.add_products(a, b, 0, links, 8, 9, alone)
        assert np.array_equal(alone[8], out[8])
    """
    settings = {"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "+sse4.2", "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, **settings})
