"""The conversions of weights that docs/weights.md shows."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import sparsenet as sn

PAGE = (Path(__file__).parents[1] / "docs" / "weights.md").read_text(encoding="utf-8")
C_IN, C_OUT, SIDE = 3, 5, 5


@pytest.fixture(scope="module")
def shown() -> dict:
    """The names that the page's code defines."""
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "docs/weights.md", "exec"), names)
    return names


def spconv_convolution(grid: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """A dense (C_in, x, y, z) as spconv computes it from its weight (C_out, k0, k1, k2, C_in): a filter of one cell
    with stride 1 is a matrix product with the weight's numbers read as (C_in, C_out)."""
    c_out, *size, c_in = weight.shape
    if size == [1, 1, 1] and stride == 1:
        return np.einsum("cxyz,cd->dxyz", grid, weight.reshape(c_in, c_out))
    out = [(side - k) // stride + 1 for side, k in zip(grid.shape[1:], size, strict=True)]
    result = np.zeros((c_out, *out))
    for offset in product(*map(range, size)):
        window = grid[(slice(None), *(slice(k, k + (n - 1) * stride + 1, stride)
                                      for k, n in zip(offset, out, strict=True)))]
        result += np.einsum("cxyz,dc->dxyz", window, weight[(slice(None), *offset)])
    return result


FILTERS = [((1, 1, 1), 1), ((1, 1, 1), 2), ((2, 2, 2), 1), ((2, 2, 2), 2), ((1, 2, 3), 1), ((3, 1, 1), 2)]


@pytest.mark.parametrize(("size", "stride"), FILTERS)
def test_a_weight_of_spconv_computes_the_same_here(size, stride):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(C_OUT, *size, C_IN))
    grid = rng.normal(size=(C_IN, SIDE, SIDE, SIDE))
    layer = sn.nn.SparseConv(C_IN, C_OUT, size, stride, bias=False).to(dtype="float64")
    layer.weight.array = sn.export.weight_from_spconv(weight, [stride] * 3)
    found = layer(sn.SparseTensor.from_dense(grid[None])).to_dense().numpy()[0]
    np.testing.assert_allclose(found, spconv_convolution(grid, weight, stride), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("size", "stride"), FILTERS)
def test_there_and_back_is_the_same_weight(size, stride):
    weight = np.random.default_rng(1).normal(size=(C_OUT, *size, C_IN))
    ours = sn.export.weight_from_spconv(weight, stride)
    assert ours.shape == (np.prod(size), C_IN, C_OUT)
    assert np.array_equal(sn.export.weight_to_spconv(ours, size, stride), weight)


def test_a_weight_of_pytorch_computes_the_same_here(shown):
    layer, theirs = shown["layer"], shown["theirs"].astype(np.float64)
    grid = np.random.default_rng(2).normal(size=(1, 3, 4, 4, 4)).astype(np.float32)
    expected = np.zeros((8, 3, 3, 3))
    for a, b, c in product(range(2), repeat=3):
        expected += np.einsum("cxyz,dc->dxyz", grid[0, :, a:a + 3, b:b + 3, c:c + 3], theirs[..., a, b, c])
    np.testing.assert_allclose(layer(sn.SparseTensor.from_dense(grid)).to_dense().numpy()[0], expected, atol=1e-5)


@pytest.mark.parametrize(("size", "place"), [((4,), (3,)), ((2, 3), (1, 2)), ((2, 3, 1), (1, 2, 0)),
                                             ((2, 1, 3, 2), (1, 0, 2, 1))])
def test_weights_of_pytorch_of_each_dimension_go_there_and_back(size, place):
    weight, offset = np.random.default_rng(3).normal(size=(C_OUT, C_IN, *size)), np.ravel_multi_index(place, size)
    ours = sn.export.weight_from_torch(weight)
    assert np.array_equal(ours[offset], weight[(slice(None), slice(None), *place)].T)
    assert np.array_equal(sn.export.weight_to_torch(ours, size), weight)
    transposed = sn.export.weight_from_transposed(weight)  # from C_OUT to C_IN channels
    assert np.array_equal(transposed[offset], weight[(slice(None), slice(None), *place)])
    assert np.array_equal(sn.export.weight_to_transposed(transposed, size), weight)


@pytest.mark.parametrize("groups", [2, 4])
def test_transposed_weights_in_groups_go_there_and_back(groups):
    weight = np.random.default_rng(3).normal(size=(8, 3, 2, 3))  # 8 channels to 3 in each group
    ours = sn.export.weight_from_transposed(weight, groups)
    assert ours.shape == (6, 8 // groups, 3 * groups)
    inputs = 8 // groups
    for group in range(groups):
        part = weight[group * inputs:(group + 1) * inputs]
        assert np.array_equal(ours[:, :, 3 * group:3 * group + 3], sn.export.weight_from_transposed(part))
    assert np.array_equal(sn.export.weight_to_transposed(ours, (2, 3), groups), weight)
    with pytest.raises(ValueError, match="weight_from_transposed: the weight has 8 channels, groups is 3"):
        sn.export.weight_from_transposed(weight, 3)


def test_the_page_names_each_of_the_functions():
    named = set(re.findall(r"`(\w+)\(w", PAGE))
    assert named == {name for name in sn.export.__all__ if name.startswith("weight_")}


@pytest.mark.parametrize(("function", "arguments", "told"), [
    ("weight_from_torch", (np.ones((2, 3)),), r"shape \(2, 3\), expected \(C_out, C_in, \*size\)"),
    ("weight_from_transposed", (np.ones((2, 3)),), r"expected \(C_in, C_out, \*size\) with 1 to 4 dimensions"),
    ("weight_from_spconv", (np.ones((2,) * 7),), r"expected \(C_out, \*size, C_in\)"),
    ("weight_to_torch", (np.ones((7, 2, 3)), (2, 2, 2)), r"shape \(7, 2, 3\), expected \(8, C_in, C_out\) for a"),
    ("weight_to_transposed", (np.ones((8, 2)), (2, 2, 2)), r"shape \(8, 2\), expected \(8, C_in, C_out\)"),
    ("weight_to_spconv", (np.ones((7, 2, 3)), (2, 2, 2)), "of size"),
])
def test_a_weight_of_another_shape_is_refused(function, arguments, told):
    with pytest.raises(ValueError, match=rf"{function}: the weight has .*{told}"):
        getattr(sn.export, function)(*arguments)
