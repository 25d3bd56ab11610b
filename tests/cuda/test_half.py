"""float16 features and parameters on the device "cuda", against the same network in float64 on the CPU."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from cuda_host import device

import sparsenet as sn
from sparsenet.backend import to_device
from sparsenet.kernels.cuda import tiles

SIZE = (9, 9, 9)
SCALE = 256.0  # of the loss


@pytest.fixture(autouse=True)
def small_tiles():
    """Fewer threads on the host, where each is a fiber."""
    if not device.missing():
        yield
        return
    line = tiles.Tile("any", "fp16", 0, 32, 32, 16, 16, 16, stages=2, resident=1)
    with tiles.using(replace(tiles.tile_table(), forward=(line,), weight_gradient=(line,))):
        yield


def rounded(array: np.ndarray, steps: int = 16) -> np.ndarray:
    """Multiples of 1/steps, in float32: float16 holds them, and what few of them add up to, exactly."""
    return (np.round(array * steps) / steps).astype(np.float32)


def network() -> sn.SparseNetwork:
    """A small S3DCNN: convolutions, leaky ReLUs, a max-pooling, and a background that is not zero.

    All is exact up to the max-pooling, so that it chooses what it chooses in float64: another choice sends a
    gradient elsewhere, which is no error of rounding.
    """
    net = sn.SparseNetwork(dimension=3, in_channels=2, seed=5)
    net.add_convolution(16, 2).add_leaky_relu(0.25).add_max_pool(3, 2)
    net.add_submanifold(16, 3).add_leaky_relu(0.25).add_convolution(6, 2, padding=1).add_leaky_relu(0.25)
    net.add_global_pool("mean").add_linear(4)
    rng = np.random.default_rng(3)
    for name, tensor in net.named_parameters():
        array = rng.uniform(-0.3, 0.3, tensor.shape) if name.endswith("bias") else tensor.array
        tensor.array = rounded(array)
    return net


def samples(where: str, dtype: str, background="zeros", seed=0) -> sn.SparseTensor:
    """Three grids, the middle one empty."""
    rng = np.random.default_rng(seed)
    coordinates = reference.random_coordinates(rng, 90, SIZE, 3, empty=(1,))
    return sn.SparseTensor(rounded(rng.standard_normal((90, 2)), 4), coordinates, SIZE, 3, background).to(where, dtype)


class Training:
    """A network, its optimizer, and their results."""

    def __init__(self, where: str, dtype: str):
        self.where, self.dtype = where, dtype
        self.net = network().to(where, dtype)
        self.optimizer = sn.optim.SGD(self.net.named_parameters(), lr=0.05, momentum=0.9, nesterov=True,
                                      weight_decay=1e-3, loss_scale=SCALE)

    def step(self) -> float:
        logits = self.net(samples(self.where, self.dtype))
        assert logits.dtype == self.dtype
        loss = sn.ops.softmax_cross_entropy(logits, np.array([0, 3, 1]))
        assert loss.dtype == (np.float32 if self.dtype == "float16" else self.dtype)
        self.optimizer.zero_grad()
        (loss * SCALE).backward()
        self.gradients = {name: sn.Tensor(tensor.grad).numpy() for name, tensor in self.net.named_parameters()}
        self.optimizer.step()
        return loss.item()

    def weights(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self.net.named_parameters()}


def test_training_follows_the_same_network_in_float64(cuda):
    half, exact = Training(cuda, "float16"), Training("cpu", "float64")
    assert half.step() == pytest.approx(exact.step(), rel=2e-3)
    for name, gradient in half.gradients.items():
        assert gradient.dtype == np.float16
        reference.assert_close(gradient, exact.gradients[name], f"gradient of {name}")
    assert half.step() == pytest.approx(exact.step(), rel=2e-3)
    for name, weight in half.weights().items():
        assert weight.dtype == np.float16
        reference.assert_close(weight, exact.weights()[name], name)


def half_parameter(where: str) -> sn.Tensor:
    return sn.Tensor(to_device(np.linspace(-1, 1, 50, dtype=np.float16), where), requires_grad=True)


def some_steps(parameter: sn.Tensor, optimizer: sn.optim.SGD | sn.optim.Adam, numbers: range) -> None:
    """Steps most of which are below the resolution of float16."""
    for number in numbers:
        gradient = np.random.default_rng(number).standard_normal(parameter.shape)
        parameter.grad = to_device(gradient.astype(np.float16), parameter.device)
        optimizer.step()


@pytest.mark.parametrize(("kind", "settings", "kept"), [
    (sn.optim.SGD, {"lr": 1e-4, "momentum": 0.9, "nesterov": True}, {"w": np.float32}),
    (sn.optim.AdamW, {"lr": 1e-4}, {"w.mean": np.float32, "w.square": np.float32, "w.steps": np.int64}),
])
def test_resuming_from_the_state_gives_the_same_bits(cuda, kind, settings, kept):
    whole = half_parameter(cuda)
    optimizer = kind([("w", whole)], **settings)
    some_steps(whole, optimizer, range(4))
    weights, state = whole.numpy().copy(), {name: to_device(array, "cpu") for name, array in
                                            optimizer.state_dict().items()}
    assert {name: array.dtype for name, array in state.items()} == {**kept, "w.master": np.float32}
    some_steps(whole, optimizer, range(4, 9))

    resumed = sn.Tensor(to_device(weights, cuda), requires_grad=True)
    again = kind([("w", resumed)], **settings)
    again.load_state_dict(state)
    some_steps(resumed, again, range(4, 9))
    assert resumed.numpy().tobytes() == whole.numpy().tobytes()
    for name, array in again.state_dict().items():
        assert to_device(array, "cpu").tobytes() == to_device(optimizer.state_dict()[name], "cpu").tobytes()


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_small_steps_are_not_lost_to_rounding(cuda, momentum):
    parameter = sn.Tensor(to_device(np.ones(3, np.float16), cuda), requires_grad=True)
    optimizer = sn.optim.SGD([parameter], lr=1e-4 * (1 - momentum), momentum=momentum)
    for _ in range(100):
        parameter.grad = to_device(np.ones(3, np.float16), cuda)
        optimizer.step()
    expected = 1 - 1e-4 * (100 - momentum / (1 - momentum) * (1 - momentum**100))
    np.testing.assert_allclose(parameter.numpy().astype(float), expected, rtol=5e-4)  # 1, were it float16 alone


def test_a_parameter_that_is_assigned_counts_before_its_master(cuda):
    parameter = half_parameter(cuda)
    optimizer = sn.optim.SGD([parameter], lr=1e-4)
    some_steps(parameter, optimizer, range(3))
    parameter.array = to_device(np.full(50, 0.75, np.float16), cuda)
    optimizer.lr = 0
    some_steps(parameter, optimizer, range(1))
    assert (parameter.numpy() == 0.75).all()


def test_masters_go_with_float16(cuda):
    parameter = half_parameter(cuda)
    optimizer = sn.optim.SGD([("w", parameter)], lr=1e-4)
    some_steps(parameter, optimizer, range(1))
    assert list(optimizer.state_dict()) == ["w.master"]
    parameter.array = parameter.array.astype(np.float32)
    parameter.grad = parameter.array.copy()
    optimizer.step()
    assert not optimizer.state_dict()


def test_weights_keep_their_bits_in_a_file(cuda, tmp_path):
    net, other = network().to(cuda, "float16"), network().to(cuda, dtype="float16")
    for tensor in other.parameters():
        tensor.array = tensor.array * 0
    net.save_weights(tmp_path / "weights.h5")
    other.load_weights(tmp_path / "weights.h5")
    for (name, given), loaded in zip(net.named_parameters(), other.parameters(), strict=True):
        assert loaded.dtype == np.float16 and np.array_equal(loaded.numpy(), given.numpy()), name
    on_cpu = network()
    on_cpu.load_weights(tmp_path / "weights.h5")  # float32 takes them, exactly
    for given, loaded in zip(net.parameters(), on_cpu.parameters(), strict=True):
        assert loaded.dtype == np.float32 and np.array_equal(loaded.numpy(), given.numpy().astype(np.float32))


def test_networks_and_features_are_moved_and_converted(cuda):
    net, x = network(), samples("cpu", "float32", background=np.ones(2))
    weight = net.layers[0].weight
    assert net.to(cuda).to(dtype="float16") is net
    assert (weight.device, weight.dtype) == ("cuda", np.float16)
    half = x.to(cuda, "float16")
    assert (half.device, half.dtype, half.background.dtype) == ("cuda", np.float16, np.float16)
    assert half.to(dtype="float16") is half and half.to(cuda).sites is half.sites
    for dtype in ("float32", "float64"):
        back = half.to("cpu", dtype)
        assert (back.device, back.dtype) == ("cpu", np.dtype(dtype))
        np.testing.assert_array_equal(back.features.numpy(), x.features.numpy())
    with pytest.raises(TypeError, match="SparseNetwork.to: convolution1.weight would be float16, expected float32 or "
                                        "float64 on a CPU: .* convert to float32 or move to cuda"):
        net.to("cpu")
    assert (weight.device, weight.dtype) == ("cuda", np.float16)
    with pytest.raises(TypeError, match="SparseTensor: features are float16, expected float32 or float64 on a CPU"):
        half.to("cpu")
    assert net.to("cpu", "float32").layers[0].weight is weight and weight.dtype == np.float32


def test_dtypes_do_not_mix(cuda):
    with pytest.raises(TypeError, match="features are float32, the weights float16: convert one of them"):
        network().to(cuda, "float16")(samples(cuda, "float32"))


def test_a_batch_is_converted_to_what_the_network_computes_with(cuda):
    net = network().to(cuda, "float16")
    batch = SimpleNamespace(input=samples(cuda, "float32", np.full(2, 0.75, np.float32)))  # as a loader gives it
    found = net(batch)
    assert found.dtype == np.float16 and np.array_equal(found.numpy(), net(batch.input.astype("float16")).numpy())
    assert net.activations(batch)[0].input.dtype == np.float16


OPERATIONS = {
    "to_dense": lambda x: x.to_dense(),
    "add": lambda x: (x + samples(x.device, str(x.dtype), np.ones(2), seed=1)).features,
    "dropout": lambda x: sn.ops.dropout(x, 0.5, np.random.default_rng(3)).features,
    "mean of all cells": lambda x: sn.ops.global_pool(x, "mean"),
    "largest of all cells": lambda x: sn.ops.global_pool(x, "max"),
    "sum of all cells": lambda x: sn.ops.global_pool(x, "sum"),
    "mean": lambda x: x.features.mean(axis=0),
    "indexing": lambda x: x.features[np.array([3, 5, 3])] if x.device == "cpu" else x.features[[3, 5, 3]],
    "product": lambda x: x.features @ x.features[:2] * 0.5,
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_operations_and_their_gradients(cuda, operation):
    found = []
    for where, dtype in ((cuda, "float16"), ("cpu", "float64")):
        given = samples(where, dtype, np.full(2, 0.75, np.float32))
        features, background = (sn.Tensor(t.array, requires_grad=True) for t in (given.features, given.background))
        result = operation(given.with_features(features, background))
        assert result.dtype == dtype
        (result * 0.5).backward(result.array * 0 + 1)
        gradients = (sn.Tensor(t.grad).numpy() for t in (features, background) if t.grad is not None)
        found.append([result.numpy(), *gradients])
    for half, exact in zip(*found, strict=True):
        reference.assert_close(half, exact)


def test_means_over_more_than_float16_can_count(cuda):
    """60 thousand sites of 50, in a grid of 68,921 cells: neither their sum nor the number of cells fits float16."""
    cells = np.arange(60_000)
    coordinates = np.stack([0 * cells, *np.unravel_index(cells, (41, 41, 41))], axis=1)
    x = sn.SparseTensor(np.full((len(cells), 1), 50, np.float32), coordinates, (41, 41, 41), 1).to(cuda, "float16")
    for mean, expected in ((sn.ops.global_pool(x), 50 * 60_000 / 41**3), (x.features.mean(), 50)):
        assert mean.dtype == np.float16
        reference.assert_close(mean.numpy(), np.full(mean.shape, expected))


def test_conversions_are_differentiable(cuda):
    x = samples(cuda, "float32", np.ones(2))
    features, background = (sn.Tensor(t.array, requires_grad=True) for t in (x.features, x.background))
    half = x.with_features(features, background).astype("float16")
    assert half.dtype == half.background.dtype == np.float16 and half.sites is x.sites
    dense = half.to_dense().astype("float64")
    (dense / 32).sum().backward()
    assert features.grad.dtype == background.grad.dtype == np.float32
    assert (features.grad == 1 / 32).all()
    np.testing.assert_allclose(sn.Tensor(background.grad).numpy(), (3 * 9**3 - 90) / 32, rtol=5e-4)  # of float16
    assert features.astype("float32") is features
