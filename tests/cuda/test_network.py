"""Whole networks on the device "cuda", with every kernel from its CUDA source: on the host, with arrays in place of
CuPy's, so that a NumPy array between two kernels is noticed; or on a GPU.
"""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet.backend import to_device
from sparsenet.training.mining import batch_hard, semi_hard


def small_network() -> sn.SparseNetwork:
    net = sn.SparseNetwork(dimension=3, in_channels=2, seed=5)
    net.add_convolution(8, 2).add_leaky_relu(0.33).add_max_pool(3, 2)
    net.add_submanifold(8, 3).add_leaky_relu(0.33).add_convolution(12, 3, padding=1).add_leaky_relu(0.33)
    net.add_global_pool("mean").add_linear(4)
    rng = np.random.default_rng(3)
    for name, tensor in net.named_parameters():
        if name.endswith("bias"):  # a background that is not zero
            tensor.array = rng.uniform(-0.3, 0.3, tensor.shape).astype(np.float32)
    return net


def some_sites(rng) -> tuple[np.ndarray, np.ndarray]:
    """Features and coordinates of three samples of 11^3 cells, the middle one empty."""
    cells = rng.permutation(2 * 11**3)[:150]
    coordinates = np.stack([2 * (cells // 11**3), *np.unravel_index(cells % 11**3, (11, 11, 11))], axis=1)
    return rng.standard_normal((150, 2)).astype(np.float32), coordinates.astype(np.int32)


def train(where: str, rng, steps: int = 2) -> tuple[list[float], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Losses, the last gradients and the weights after some steps."""
    net, (features, coordinates) = small_network().to(where), some_sites(rng)
    optimizer = sn.optim.SGD(net.named_parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    losses = []
    for _ in range(steps):
        x = sn.SparseTensor(features, coordinates, (11, 11, 11), 3).to(where)
        loss = sn.ops.softmax_cross_entropy(net(x), np.array([0, 3, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.numpy()))
    gradients = {name: sn.Tensor(tensor.grad).numpy() for name, tensor in net.named_parameters()}
    return losses, gradients, net.get_weights()


def test_training_gives_what_it_gives_on_the_cpu(cuda):
    losses, gradients, weights = train(cuda, np.random.default_rng(0))
    expected_losses, expected_gradients, expected_weights = train("cpu", np.random.default_rng(0))
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for name in expected_weights:
        reference.assert_close(gradients[name], expected_gradients[name], f"gradient of {name}")
        reference.assert_close(weights[name], expected_weights[name], name)


def test_training_again_gives_the_same_bits(cuda, request):
    repeats = 100 if request.node.get_closest_marker("gpu") else 2
    losses, *first = train(cuda, np.random.default_rng(0), steps=1)
    for _ in range(repeats - 1):
        again, *arrays = train(cuda, np.random.default_rng(0), steps=1)
        assert again == losses
        for one, other in zip(first, arrays, strict=True):
            assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_a_dense_result_and_a_triplet_loss(cuda):
    features, coordinates = some_sites(np.random.default_rng(1))
    values = []
    for where in ("cpu", cuda):
        x = sn.SparseTensor(features, coordinates, (11, 11, 11), 3, background=np.ones(2, np.float32)).to(where)
        dense = x.to_dense()
        rows = sn.Tensor(x.features.array[:30], requires_grad=True)
        loss = sn.ops.triplet_loss(rows[:10], rows[10:20], rows[20:], 0.2)
        loss.backward()
        values.append([dense.numpy(), loss.numpy(), sn.Tensor(rows.grad).numpy()])
    for on_cpu, on_cuda in zip(*values, strict=True):
        reference.assert_close(np.asarray(on_cuda), on_cpu)


def test_devices_do_not_mix(cuda):
    net, (features, coordinates) = small_network().to(cuda), some_sites(np.random.default_rng(0))
    with pytest.raises(TypeError, match="different devices"):
        net(sn.SparseTensor(features, coordinates, (11, 11, 11), 3))


def test_dropout_maxima_and_the_union_of_two_grids(cuda):
    (features, coordinates), values = some_sites(np.random.default_rng(2)), []
    ground = np.ones(2, np.float32)
    for where in ("cpu", cuda):
        x, other = (sn.SparseTensor(features[some], coordinates[some], (11, 11, 11), 3, background=ground).to(where)
                    for some in (slice(0, 90), slice(60, None)))
        given = sn.Tensor(x.features.array, requires_grad=True)
        both = sn.ops.add(x.with_features(given, x.background), other)
        pooled = sn.nn.GlobalPool("max")(sn.nn.Dropout(0.5, rng=7)(both))
        (pooled**2).mean().backward()
        values.append([both.features.numpy(), pooled.numpy(), sn.Tensor(given.grad).numpy()])
    for on_cpu, on_cuda in zip(*values, strict=True):
        reference.assert_close(on_cuda, on_cpu)


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_mining(cuda, distance):
    rng = np.random.default_rng(4)
    descriptors, labels = rng.standard_normal((20, 6)).astype(np.float32), rng.integers(0, 3, 20)
    moved = [to_device(array, cuda) for array in (descriptors, labels)]
    for on_cpu, on_cuda in [(batch_hard(descriptors, labels, distance), batch_hard(*moved, distance)),
                            (semi_hard(descriptors, labels, 0.2, distance), semi_hard(*moved, 0.2, distance))]:
        for one, other in zip(on_cpu, on_cuda, strict=True):
            np.testing.assert_array_equal(to_device(other, "cpu"), one)
