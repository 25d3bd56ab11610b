"""Layers that run as one operation on a GPU have the results of the separate layers: values, backgrounds, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet.backend import to_device
from sparsenet.kernels import counting
from sparsenet.nn.fusion import run_layers

SIDE = 9


def some_input(where: str, background: object = "zeros", dtype: str = "float64") -> sn.SparseTensor:
    """Two samples, the first of them empty; features that require a gradient."""
    rng = np.random.default_rng(1)
    cells = rng.permutation(SIDE**3)[:40]
    coordinates = np.stack([np.ones_like(cells), *np.unravel_index(cells, (SIDE,) * 3)], axis=1).astype(np.int32)
    if background == "one row":
        background = np.array([0.3, -0.2], dtype)
    elif background == "by sample":
        background = np.array([[0.3, -0.2], [0.1, 0.4]], dtype)
    x = sn.SparseTensor(rng.standard_normal((40, 2)).astype(dtype), coordinates, (SIDE,) * 3, 2, background).to(where)
    zero = x.zero_background
    x = sn.SparseTensor.from_sites(sn.Tensor(x.features.array, requires_grad=True), x.sites, "zeros" if zero else (
        None if x.background is None else sn.Tensor(x.background.array, requires_grad=True)))
    assert x.zero_background == zero
    return x


def layers(kind: str, dtype: str = "float64", slope: float = 0.25) -> list[sn.nn.Module]:
    first = sn.nn.SparseConv(2, 5, 2, rng=0)
    found: list[sn.nn.Module] = [first, sn.nn.LeakyReLU(slope)]
    if kind != "no pooling":
        found.append(sn.nn.SparseMaxPool(3, 2) if kind == "overlapping windows" else
                     sn.nn.SparseMaxPool(3, 2, 1) if kind == "padded windows" else sn.nn.SparseMaxPool(2))
    second = sn.nn.SubmanifoldConv(5, 4, 3, rng=1, bias=kind != "no pooling")
    found += [second, sn.nn.LeakyReLU(slope)]
    rng = np.random.default_rng(2)
    for convolution in (first, second):
        convolution.weight.array = rng.uniform(-0.5, 0.5, convolution.weight.shape).astype(dtype)
        if convolution.bias is not None:
            convolution.bias.array = rng.uniform(-0.5, 0.5, convolution.bias.shape).astype(dtype)
    return found


def outcome(where: str, modules: list[sn.nn.Module], x: sn.SparseTensor, fused: bool) -> dict[str, np.ndarray]:
    """Output, background, and the gradients of a weighted sum of both."""
    modules = [module.to(where) for module in modules]
    with counting() as counts:
        if fused:
            y = run_layers(modules, x)
        else:
            y = x
            for module in modules:
                y = module(y)
        rng = np.random.default_rng(3)
        loss = sum((tensor * sn.Tensor(to(where, rng.standard_normal(tensor.shape)))).sum()
                   for tensor in (y.features, y.background))
        loss.backward()
    assert bool(counts.launches["level_gradient"]) == fused
    found = {"output": y.features.numpy(), "background": y.background.numpy(),
             "features": to("cpu", x.features.grad)}
    if x.background is not None and x.background.grad is not None:
        found["input background"] = to("cpu", x.background.grad)
    for i, module in enumerate(modules):
        found |= {f"{i}.{name}": to("cpu", parameter.grad) for name, parameter in module.named_parameters()}
    return found


def to(where: str, array: object) -> object:
    return to_device(array, where)


@pytest.mark.parametrize("background", ["zeros", "one row"])
@pytest.mark.parametrize("kind", ["no pooling", "overlapping windows", "padded windows", "windows apart"])
def test_values_and_gradients(cuda, kind, background):
    fused = outcome(cuda, layers(kind), some_input(cuda, background), fused=True)
    single = outcome("cpu", layers(kind), some_input("cpu", background), fused=False)
    assert fused.keys() == single.keys()
    for name in single:
        reference.assert_close(fused[name], single[name], name)


def test_frozen_layers(cuda):
    results = []
    for where in (cuda, "cpu"):
        modules, x = layers("overlapping windows"), some_input(where)
        for parameter in modules[0].parameters():
            parameter.requires_grad = False
        x = x.detach()
        y = run_layers([module.to(where) for module in modules], x)
        y.features.sum().backward()
        assert modules[0].weight.grad is None
        results.append([to("cpu", parameter.grad) for parameter in modules[3].parameters()])
    for found, expected in zip(*results, strict=True):
        reference.assert_close(found, expected)


@pytest.mark.parametrize("change", ["slope", "no background", "by sample", "anomaly", "records"])
def test_layers_run_one_by_one(cuda, change):
    modules = [module.to(cuda) for module in layers("windows apart", slope=0.0 if change == "slope" else 0.25)]
    x = some_input(cuda, {"no background": None, "by sample": "by sample"}.get(change, "zeros"))
    net = sn.SparseNetwork(3, 2)
    net.layers = modules
    with counting() as counts:
        if change == "anomaly":
            with sn.detect_anomaly():
                net(x)
        elif change == "records":
            assert [record.name for record in net.activations(x)][:2] == ["convolution1", "leaky_relu1"]
        else:
            net(x)
    assert counts.launches["convolution_forward"] and not counts.launches["level_backgrounds"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_levels_that_run_again_give_the_same_bits(cuda, dtype):
    """Features less the background, as levels hand them on, included."""
    found = []
    for recompute in (0, 2):
        net = sn.s3dcnn(3, channels=(4, 6), norm=None).to(cuda, dtype)
        net.recompute, net.field = recompute, None
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.array = parameter.array + 0.25
        x = some_input(cuda, dtype="float32")
        x = sn.SparseTensor.from_sites(x.features.array[:, :1].copy(), x.sites).astype(dtype)
        loss = sn.ops.softmax_cross_entropy(net(x), [0, 2])
        loss.backward()
        found.append([loss.numpy().tobytes(), *(sn.Tensor(one.grad).numpy().tobytes() for one in net.parameters())])
    assert found[0] == found[1]


def test_without_a_graph_nothing_is_kept_for_one(cuda):
    net = sn.SparseNetwork(3, 2)
    net.layers = layers("windows apart")
    net, x = net.to(cuda), some_input(cuda)
    with sn.no_grad(), counting() as counts:
        y = net(x)
    assert counts.launches["level_backgrounds"] == 1 and y.features.is_leaf
    reference.assert_close(y.features.numpy(), net(x).features.numpy())


def test_what_is_known_of_a_background(cuda):
    x = some_input("cpu")
    assert x.zero_background and x.to(cuda).zero_background and x.to(dtype="float32").zero_background
    x.background.array = np.ones(2)
    assert not x.zero_background
    x = some_input("cpu")
    relative = sn.SparseTensor.from_relative(x.relative, x.sites, sn.Tensor(np.ones(2)))
    relative.background = sn.Tensor(np.zeros(2))
    assert np.array_equal(relative.features.array, x.features.array + 1)
    relative.features = x.features
    assert np.array_equal(relative.relative.array, x.features.array) and not relative.zero_background


@pytest.mark.parametrize("background", ["zeros", "one row", "by sample"])
def test_relative_features(background):
    x = some_input("cpu", background)
    relative = x.relative
    rows = np.broadcast_to(x.background.array, (2, 2))[x.coordinates[:, 0]]
    assert np.array_equal(relative.array, x.features.array - rows)
    assert (relative is x.features) == (background == "zeros")
    y = sn.SparseTensor.from_relative(relative, x.sites, x.background)
    assert (y.channels, y.dtype, y.device, y.relative) == (2, x.dtype, "cpu", relative)
    reference.assert_close(y.features.array, x.features.array)
    (y.features * y.features).sum().backward()
    reference.assert_close(x.features.grad, 2 * x.features.array)
    if background != "zeros":  # what it got by one way it lost by the other
        reference.assert_close(x.background.grad, np.zeros_like(x.background.array))


def test_unfit_arguments():
    x, modules = some_input("cpu"), layers("no pooling")
    weight, bias, geometry = modules[0].weight, modules[0].bias, modules[0].geometry
    with pytest.raises(ValueError, match="level: slope is 0.0, expected a number above 0"):
        sn.ops.level(x, weight, bias, geometry, 0.0)
    for background in (None, "by sample"):
        with pytest.raises(ValueError, match="level: the input has no background, or one for each sample"):
            sn.ops.level(some_input("cpu", background), weight, bias, geometry, 0.5)
    with pytest.raises(ValueError, match=r"SparseMaxPool: padding is \(2, 2, 2\), expected at most \(1, 1, 1\)"):
        sn.ops.level(x, weight, bias, geometry, 0.5, sn.sparse.Geometry.make(3, 3, padding=2))
    with pytest.raises(ValueError, match="SparseConv: the weights have shape"):
        sn.ops.level(x, weight[:3], bias, geometry, 0.5)


def test_the_operation_alone_on_a_cpu():
    """The operation also runs on a CPU: its gradients against finite differences."""
    x, modules = some_input("cpu", "one row"), layers("overlapping windows")
    weight, bias, geometry = modules[0].weight, modules[0].bias, modules[0].geometry

    def loss(features, background, weight, bias):
        given = sn.SparseTensor.from_sites(features, x.sites, background)
        y = sn.ops.level(given, weight, bias, geometry, 0.25, modules[2].geometry)
        return (y.features * y.features).sum() + (y.background * y.background).sum()

    sn.gradcheck(loss, [x.features, x.background, weight, bias])
