"""Samples with backgrounds of their own, (B, C): each has the result and the gradients that it has alone."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import ops
from sparsenet.sparse import Geometry

SIZE = (5, 4)
CHANNELS = 3
RNG = np.random.default_rng(5)
WEIGHT, BIAS = RNG.standard_normal((9, CHANNELS, 2)), RNG.standard_normal(2)


def convolved(geometry):
    def operate(x, weight, bias):
        return ops.convolution(x, weight, bias, geometry)

    return operate


OPERATIONS = {
    "convolution": convolved(Geometry.make(2, 3, 2, 1)),
    "submanifold": convolved(Geometry.make_submanifold(2, 3)),
    "max_pool": lambda x, *_: ops.max_pool(x, Geometry.make(2, 3, 1)),
    "padded max_pool": lambda x, *_: ops.max_pool(x, Geometry.make(2, 3, 2, 1)),
    "average_pool": lambda x, *_: ops.average_pool(x, Geometry.make(2, 3, 2, 1)),
    "sum_pool": lambda x, *_: ops.sum_pool(x, Geometry.make(2, 2, 2)),
    "upsample": lambda x, *_: ops.upsample(x, 2, (9, 9)),
    "linear": lambda x, weight, bias: ops.linear(x, weight[0], bias),
    "prune": lambda x, *_: ops.prune(x, x.features[:, 0] > 0),
    "broadcast": lambda x, *_: ops.broadcast(ops.global_pool(x), x),
    "leaky_relu": lambda x, *_: ops.leaky_relu(x, 0.1),
    "gelu": lambda x, *_: ops.gelu(x),
    "prelu": lambda x, weight, bias: ops.prelu(x, weight[0, :, 0]),
    "softmax": lambda x, *_: ops.softmax(x),
    "add": lambda x, *_: ops.add(x, x),
    "subtract": lambda x, *_: ops.leaky_relu(x, 0.5) - x,
    "multiply": lambda x, *_: x * ops.leaky_relu(x, 0.5),
    "concatenate": lambda x, *_: ops.concatenate(x, ops.leaky_relu(x, 0.5)),
    "astype": lambda x, *_: x.astype("float32").astype("float64"),
    "to_dense": lambda x, *_: ops.to_dense(x),
    **{f"global {mode}": lambda x, *_, mode=mode: ops.global_pool(x, mode) for mode in ("mean", "max", "sum")},
}


def run(operate, features, coordinates, backgrounds, weigh, lone=None):
    """The resulting grid, and the gradients of features, backgrounds, weight and bias; of all samples or one."""
    chosen = np.ones(len(features), bool) if lone is None else coordinates[:, 0] == lone
    cells = coordinates[chosen].copy()
    if lone is not None:
        cells[:, 0] = 0
        backgrounds = backgrounds[lone]
    leaves = [sn.Tensor(array, requires_grad=True) for array in (features[chosen], backgrounds, WEIGHT, BIAS)]
    x = sn.SparseTensor(leaves[0], cells, SIZE, 1 if lone is not None else len(backgrounds), leaves[1])
    y = operate(x, *leaves[2:])
    grid = y.to_dense() if isinstance(y, sn.SparseTensor) else y
    gradient = weigh(grid.shape[1:])
    (grid * (gradient if lone is None else gradient[lone:lone + 1])).sum().backward()
    return grid.numpy(), [0 if leaf.grad is None else leaf.grad for leaf in leaves]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_sample_comes_out_as_alone(name, batch, rng):
    coordinates = reference.random_coordinates(rng, 6 * batch, SIZE, batch)
    features = rng.standard_normal((len(coordinates), CHANNELS))
    backgrounds = rng.standard_normal((batch, CHANNELS))
    gradients = {}

    def weigh(shape):
        return gradients.setdefault(shape, rng.standard_normal((batch, *shape)))

    given = OPERATIONS[name], features, coordinates, backgrounds, weigh
    whole, (to_features, to_backgrounds, *to_parameters) = run(*given)
    sums = [0, 0]
    for sample in range(batch):
        alone, (own_features, own_background, *own) = run(*given, lone=sample)
        np.testing.assert_allclose(whole[sample], alone[0], rtol=1e-6 if name == "astype" else 1e-12)
        np.testing.assert_allclose(to_features[coordinates[:, 0] == sample], own_features, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(to_backgrounds[sample], own_background, rtol=1e-9, atol=1e-12)
        sums = [total + part for total, part in zip(sums, own, strict=True)]
    for total, expected in zip(to_parameters, sums, strict=True):
        np.testing.assert_allclose(total, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_dropout_scales_each_background_by_its_own_mask(batch, rng):
    coordinates = reference.random_coordinates(rng, 6 * batch, SIZE, batch)
    backgrounds = sn.Tensor(rng.standard_normal((batch, CHANNELS)), requires_grad=True)
    features = sn.Tensor(rng.standard_normal((len(coordinates), CHANNELS)), requires_grad=True)
    mask = ops.dropout(sn.Tensor(np.ones((batch, CHANNELS))), 0.4, np.random.default_rng(1)).numpy()
    x = sn.SparseTensor(features, coordinates, SIZE, batch, backgrounds)
    y = ops.dropout(x, 0.4, np.random.default_rng(1))
    (y.features.sum() + y.background.sum()).backward()
    np.testing.assert_allclose(y.background.numpy(), backgrounds.array * mask)
    np.testing.assert_allclose(y.to_dense().numpy(), mask[:, :, None, None] * x.to_dense().numpy())
    np.testing.assert_array_equal(backgrounds.grad, mask)
    np.testing.assert_array_equal(features.grad, mask[coordinates[:, 0]])
