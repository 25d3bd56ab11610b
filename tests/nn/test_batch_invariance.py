"""In evaluation a sample's output has the same bits whatever else is in its batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sparsenet as sn
from sparsenet import ops
from sparsenet.autograd import Tensor, no_grad
from sparsenet.kernels import views_read
from sparsenet.kernels.table import Kernel
from sparsenet.nn import Module
from sparsenet.retrieval import embed
from sparsenet.sparse import SparseTensor

SIZE = (6, 7, 6)
BATCHES = (1, 2, 7, 32, 60)
LAYERS = {
    "plain": lambda c_in, c_out: sn.nn.SparseConv(c_in, c_out, 2, rng=0),
    "submanifold": lambda c_in, c_out: sn.nn.SubmanifoldConv(c_in, c_out, 3, rng=0),
    "strided": lambda c_in, c_out: sn.nn.SparseConv(c_in, c_out, 3, 2, rng=0),
    "dilated": lambda c_in, c_out: sn.nn.SparseConv(c_in, c_out, 2, dilation=2, rng=0),
    "padded": lambda c_in, c_out: sn.nn.SparseConv(c_in, c_out, 3, padding=1, rng=0),
    "no bias": lambda c_in, c_out: sn.nn.SparseConv(c_in, c_out, 2, 2, bias=False, rng=0),
    "1^3": lambda c_in, c_out: sn.nn.SparseConv(c_in, c_out, 1, rng=0),
    "linear": lambda c_in, c_out: sn.nn.Linear(c_in, c_out, rng=0),
    "average": lambda c_in, c_out: sn.nn.SparseAvgPool(3, 2, 1),
    "sum": lambda c_in, c_out: sn.nn.SparseSumPool(2),
    "padded maximum": lambda c_in, c_out: sn.nn.SparseMaxPool(3, 2, 1),
    "upsampled": lambda c_in, c_out: sn.nn.Upsample(2, (11, 14, 13)),
}


class Shapes:
    """Samples of all fillings, some without a site; each has its own features and background."""

    def __init__(self, count: int, channels: int, dtype: np.dtype, background: str, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.background = background
        self.shares = rng.permutation(np.resize([0.0, 0.01, 0.05, 0.3, 0.9, 1.0], count))
        self.cells = [np.argwhere(rng.random(SIZE) < share) for share in self.shares]
        self.features = [rng.standard_normal((len(cells), channels)).astype(dtype) for cells in self.cells]
        self.backgrounds = rng.standard_normal((count, channels)).astype(dtype)
        self.backgrounds[0] = 0

    def batch(self, chosen: Sequence[int]) -> SparseTensor:
        rows = [np.insert(self.cells[sample], 0, place, axis=1) for place, sample in enumerate(chosen)]
        background = {"none": None, "zeros": "zeros", "shared": self.backgrounds[1],
                      "of samples": self.backgrounds[list(chosen)]}[self.background]
        return SparseTensor(np.concatenate([self.features[sample] for sample in chosen]),
                            np.concatenate(rows).astype(np.int32), SIZE, len(chosen), background)


def parts(y: SparseTensor | Tensor) -> list[tuple[np.ndarray, ...]]:
    """The cells, features and background of each sample of a batch, or its row."""
    if isinstance(y, Tensor):
        return [(row,) for row in y.numpy()]
    coordinates, features = np.asarray(y.coordinates), y.features.numpy()
    background = np.zeros(0) if y.background is None else y.background.numpy()
    return [(coordinates[coordinates[:, 0] == b, 1:], features[coordinates[:, 0] == b],
             background[b] if background.ndim == 2 else background) for b in range(y.batch_size)]


def cut(order: Sequence[int], size: int) -> list[Sequence[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def check(net: Module, shapes: Shapes, order: Sequence[int], sizes: Sequence[int] = BATCHES) -> None:
    """Each sample has the same bits in batches of all those sizes, in that order."""
    with no_grad():
        alone = {sample: parts(net(shapes.batch([sample])))[0] for sample in order}
        for size in sizes:
            for chosen in cut(order, size):
                for sample, part in zip(chosen, parts(net(shapes.batch(chosen))), strict=True):
                    for found, expected in zip(part, alone[sample], strict=True):
                        assert found.dtype == expected.dtype
                        assert np.array_equal(found, expected), f"sample {sample} in a batch of {size}"


def network(c_in: int, width: int, dtype: np.dtype, pool: str = "mean", layer: str = "padded") -> Module:
    net = sn.nn.Sequential(LAYERS[layer](c_in, width), sn.nn.LeakyReLU(0.33),
                           sn.nn.SubmanifoldConv(width, width, 3, rng=1), sn.nn.SparseMaxPool(2),
                           sn.nn.SparseConv(width, 24, 2, rng=2), sn.nn.Dropout(0.5), sn.nn.GlobalPool(pool),
                           sn.nn.Linear(24, 10, rng=3))
    return net.to(dtype=dtype).eval()


@pytest.mark.parametrize("background", ["none", "zeros", "shared", "of samples"])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer(layer, background, dtype):
    shapes = Shapes(60, 16, dtype, background)
    net = LAYERS[layer](16, 40).to(dtype=dtype).eval()
    check(net, shapes, np.random.default_rng(1).permutation(60).tolist(), (7, 60))


@pytest.mark.parametrize("pool", ["mean", "sum", "max"])
@pytest.mark.parametrize("c_in", [1, 20])
def test_a_network_in_batches_of_any_size_and_order(c_in, pool, dtype):
    order = np.random.default_rng(2).permutation(60).tolist()
    check(network(c_in, 48, dtype, pool), Shapes(60, c_in, dtype, "zeros"), order)
    check(network(c_in, 48, dtype, pool), Shapes(60, c_in, dtype, "of samples"), order[::-1], (60,))


@settings(max_examples=40)
@given(layer=st.sampled_from(sorted(LAYERS)), background=st.sampled_from(["none", "zeros", "shared", "of samples"]),
       c_in=st.integers(1, 70), c_out=st.integers(1, 130), dtype=st.sampled_from(["float32", "float64"]),
       pool=st.sampled_from(["mean", "sum", "max"]), seed=st.integers(0, 99), data=st.data())
def test_any_layer_of_any_width(layer, background, c_in, c_out, dtype, pool, seed, data):
    shapes = Shapes(9, c_in, np.dtype(dtype), background, seed)
    net = sn.nn.Sequential(LAYERS[layer](c_in, c_out), sn.nn.GlobalPool(pool)).to(dtype=dtype).eval()
    order = data.draw(st.permutations(range(9)))
    check(net, shapes, order, (data.draw(st.integers(2, 9)),))
    check(net.layers[0], shapes, order, (9,))


def test_every_view_occurs():
    """One layer reads the neighbour table for some samples and pairs for others, so no view may be seen in the bits."""
    shapes, geometry = Shapes(60, 16, np.dtype("float32"), "none"), LAYERS["submanifold"](16, 40).geometry
    rulebooks = [shapes.batch([sample]).sites.rulebook(geometry) for sample in range(60)]
    views = {view for rulebook in rulebooks for view in views_read("convolution_forward_by_row", rulebook, 16, 40)}
    assert views == {"neighbours", "pairs"}


def test_rows_of_linear_and_of_a_matrix_product(dtype, rng):
    x = rng.standard_normal((60, 192)).astype(dtype)
    layer = sn.nn.Linear(192, 40, rng=0).to(dtype=dtype).eval()
    together, product = layer(Tensor(x)).numpy(), (Tensor(x) @ layer.weight).numpy()
    for size in BATCHES:
        for rows in cut(range(60), size):
            part = Tensor(np.ascontiguousarray(x[list(rows)]))
            assert np.array_equal(layer(part).numpy(), together[list(rows)])
            assert np.array_equal((part @ layer.weight).numpy(), product[list(rows)])


def test_softmax_of_a_prediction(rng):
    from sparsenet.nn.prediction import softmax

    logits = rng.standard_normal((60, 41)) * 10
    together = softmax(logits)
    for size in BATCHES:
        assert np.array_equal(np.concatenate([softmax(logits[list(rows)]) for rows in cut(range(60), size)]), together)


def test_bits_do_not_depend_on_threads(dtype):
    shapes, net, before = Shapes(12, 20, dtype, "of samples"), network(20, 48, dtype), sn.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            sn.set_num_threads(threads)
            results.append(net(shapes.batch(range(12))).numpy())
    finally:
        sn.set_num_threads(before)
    assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("background", ["none", "zeros", "of samples"])
def test_images_of_a_sample_are_pooled_alone(background, dtype):
    shapes, net = Shapes(60, 2, dtype, background), sn.SparseNetwork(3, 2, seed=1).add_depth_images(4)
    net.add_convolution(24, 3, 2).add_leaky_relu(0.3).add_image_pool().add_linear(10).to(dtype=dtype).eval()
    check(net, shapes, np.random.default_rng(1).permutation(60).tolist(), (7, 60))


def test_descriptors_of_parts_are_those_of_the_whole():
    shapes, net = Shapes(60, 1, np.dtype("float32"), "zeros"), sn.nn.SparseNetwork(3, 1, seed=1)
    net.add_convolution(32, 2).add_leaky_relu(0.33).add_max_pool(2).add_convolution(48, 2).add_linear(10)
    whole = embed(net, shapes.batch(range(60)))
    for size in BATCHES:
        found = [embed(net, shapes.batch(rows)) for rows in cut(range(60), size)]
        assert np.array_equal(np.concatenate(found), whole)
    assert net.training


@pytest.mark.parametrize("c_in", [1, 16])
def test_training_and_plain_calls_take_the_faster_kernel(c_in, monkeypatch):
    x, layer = Shapes(9, c_in, np.dtype("float32"), "none").batch(range(9)), LAYERS["plain"](c_in, 40)
    calls = {"training": lambda: layer.train()(x), "evaluation": lambda: layer.eval()(x),
             "plain": lambda: ops.convolution(x, layer.weight, layer.bias, layer.geometry)}
    plain, launched, made = Kernel.__call__, [], {}

    def recorded(kernel, *values, **options):
        launched.append(kernel.name)
        return plain(kernel, *values, **options)

    monkeypatch.setattr(Kernel, "__call__", recorded)
    for name, call in calls.items():
        launched.clear()
        found = call().features.numpy()
        made[name] = found, [kernel for kernel in launched if kernel.startswith("convolution")]
    assert made["training"][1] == made["plain"][1] == ["convolution_forward"]
    assert made["evaluation"][1] == ["convolution_forward_by_row"]
    assert np.array_equal(made["training"][0], made["plain"][0])
    np.testing.assert_allclose(made["evaluation"][0], made["training"][0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_in_evaluation_are_those_of_training(layer, dtype):
    shapes, net = Shapes(9, 8, dtype, "of samples"), LAYERS[layer](8, 12).to(dtype=dtype)
    found = {}
    for training in (True, False):
        net.train(training).zero_grad()
        x = shapes.batch(range(9))
        features = Tensor(x.features.numpy(), requires_grad=True)
        y = net(x.with_features(features, x.background))
        y.features.backward(np.random.default_rng(3).standard_normal(y.features.shape).astype(dtype))
        found[training] = [features.grad, *(parameter.grad for parameter in net.parameters())]
    assert all(np.array_equal(a, b) for a, b in zip(found[True], found[False], strict=True))


def test_gradcheck_in_evaluation(rng):
    shapes = Shapes(5, 2, np.dtype("float64"), "shared")
    x, layer = shapes.batch([0, 1, 2, 4]), sn.nn.SparseConv(2, 3, 2, rng=0)

    def output(features, background, weight, bias):
        y = ops.convolution(x.with_features(features, background), weight, bias, layer.geometry, batch_invariant=True)
        return y.features.sum() + (y.background * y.background).sum()

    inputs = [Tensor(np.array(tensor.numpy(), np.float64), requires_grad=True)
              for tensor in (x.features, x.background, layer.weight, layer.bias)]
    assert sn.gradcheck(output, inputs)
