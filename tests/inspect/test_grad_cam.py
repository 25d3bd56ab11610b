"""Grad-CAM of a sparse network is that of the dense one, at every active and inactive cell."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import nn
from sparsenet.inspect import grad_cam
from sparsenet.inspect.grad_cam import Centres, interpolated
from sparsenet.sparse import ActiveSites

SIDE = 10


def network(dimension=2, classes=4):
    """Unpadded, with poolings, which pass their background on, and biases that make it differ from zero."""
    net = sn.SparseNetwork(dimension, in_channels=2, seed=2, field=SIDE)
    net.add_convolution(5, 3).add_leaky_relu(0.2).add_max_pool(2, 1).add_convolution(6, 2).add_max_pool(2)
    net.add_leaky_relu(0.1).add_convolution(7, 3).add_global_pool("mean").add_linear(classes)
    rng = np.random.default_rng(5)
    for name, tensor in net.named_parameters():
        if name.endswith("bias"):
            tensor.array = rng.uniform(-0.4, 0.4, tensor.shape).astype("f4")
    return net.to(np.float64).eval()


def batch(rng, dimension=2, background=(0.3, -0.2), samples=3, count=12):
    cells = reference.random_coordinates(rng, count, (SIDE,) * dimension, samples, empty=(1,))
    background = None if background is None else np.array(background)
    return sn.SparseTensor(rng.standard_normal((count, 2)), cells, (SIDE,) * dimension, samples, background)


def dense_layers(layers):
    """Layers for the dense oracle."""
    found = []
    for layer in layers:
        options = {}
        if hasattr(layer, "geometry"):
            options = {"size": layer.geometry.size, "stride": layer.geometry.stride}
        elif layer.kind == "leaky_relu":
            options = {"slope": layer.negative_slope}
        elif layer.kind == "global_pool":
            options = {"mode": layer.mode}
        weight, bias = (None if tensor is None else tensor.numpy() for tensor in
                        (getattr(layer, "weight", None), getattr(layer, "bias", None)))
        found.append(reference.Layer(layer.kind, weight, bias, options))
    return found


def dense_cam(net, x, place, targets):
    """alpha (B, C) and the importance (B, *spatial) of layer `place`, from 1, by loops over the dense grid."""
    grid = net.run(x, 0, place).to_dense().numpy()
    tail = dense_layers(net.layers[place:])
    outputs, choices = reference.run_forward(tail, grid)
    seed = np.zeros(outputs[-1].shape)
    seed[np.arange(len(targets)), targets] = 1
    gradient, _ = reference.run_backward(tail, grid, outputs, choices, seed)
    alpha = gradient.reshape(*gradient.shape[:2], -1).mean(axis=2)
    return alpha, np.maximum(np.einsum("bc,bc...->b...", alpha, grid), 0)


@pytest.mark.parametrize("place", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_it_is_that_of_the_dense_network(place, dimension, rng):
    net, x, targets = network(dimension), batch(rng, dimension), np.array([3, 0, 1])
    cam = grad_cam(net, x, place, targets)
    alpha, importance = dense_cam(net, x, place, targets)
    assert cam.layer == net.names()[place - 1] and cam.target.tolist() == targets.tolist()
    reference.assert_close(cam.alpha, alpha, "alpha")
    sites = cam.sites.coordinates
    reference.assert_close(cam.importance, importance[tuple(sites.T)])
    expected = np.broadcast_to(cam.background.reshape(-1, *[1] * dimension), importance.shape).copy()
    expected[tuple(sites.T)] = cam.importance
    reference.assert_close(expected, importance, "inactive cells")
    reference.assert_close(cam.logit, net(x).numpy()[np.arange(3), targets])


def test_something_is_important(rng):
    """In this network, or the comparisons above would compare zeros."""
    net, x = network(), batch(rng)
    cams = [grad_cam(net, x, place, 1) for place in range(1, 7)]
    assert sum((cam.importance > 0).any() for cam in cams) >= 4 and sum(cam.background.any() for cam in cams) >= 3


def test_the_class_that_is_predicted_and_the_last_grid_by_default(rng):
    net, x = network(), batch(rng)
    cam = grad_cam(net, x)
    assert cam.target.tolist() == net(x).numpy().argmax(axis=1).tolist() and cam.layer == "leaky_relu2"
    assert np.array_equal(cam.importance, grad_cam(net, x, "leaky_relu2", cam.target).importance)
    small = sn.s3dcnn(3, channels=(2, 3, 4), dimension=2)  # its last convolution has one cell
    y = sn.SparseTensor.from_dense(np.eye(14, dtype="f4")[None, None])
    assert grad_cam(small, y).layer == "max_pool2"
    assert repr(grad_cam(small, y, target=2)).startswith("GradCam(max_pool2: ")


def test_a_sample_does_not_depend_on_the_others(rng):
    net, x = network(), batch(rng)
    both = grad_cam(net, x, 5, 2)
    rows = x.coordinates[:, 0] == 2
    alone = sn.SparseTensor(x.features.array[rows], x.coordinates[rows] * [0, 1, 1], (SIDE,) * 2, 1, x.background)
    cam = grad_cam(net, alone, 5, 2)
    reference.assert_close(cam.importance, both.importance[both.sites.coordinates[:, 0] == 2])
    reference.assert_close(cam.on_input, both.on_input[rows])


def test_without_a_background_the_sites_alone_count(rng):
    net, x = network(), batch(rng, background=None)
    cam = grad_cam(net, x, 6, 1)
    leaf = net.run(x, 0, 6)
    leaf = leaf.with_features(sn.Tensor(leaf.features.array, requires_grad=True), None)
    net.run(leaf, 6)[:, 1].sum().backward()
    for sample in (0, 2):
        rows = leaf.coordinates[:, 0] == sample
        alpha = leaf.features.grad[rows].mean(axis=0)
        reference.assert_close(cam.alpha[sample], alpha)
        reference.assert_close(cam.importance[rows], np.maximum(leaf.features.array[rows] @ alpha, 0))
    assert not cam.alpha[1].any() and not cam.background.any()


def test_modes_and_gradients_stay(rng):
    net, x = network().train(), batch(rng)
    net(x).sum().backward()
    net.layers[0].bias.requires_grad = False
    before = [(p.grad.copy(), p.requires_grad) for p in net.parameters()]
    x.features.requires_grad = True
    grad_cam(net, x)
    assert all(module.training for module in net.modules()) and x.features.grad is None
    after = [(p.grad, p.requires_grad) for p in net.parameters()]
    assert all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(before, after, strict=True))


def test_layers_within_layers_and_sums(rng):
    net = sn.resnet(3, channels=(4, 6), dimension=2).to(np.float64)
    cells = reference.random_coordinates(rng, 9, (8, 8), 2)
    x = sn.SparseTensor(np.ones((9, 1)), cells, (8, 8), 2)
    assert grad_cam(net, x).layer == "relu3"
    inner, outer = grad_cam(net, x, "residual2.4"), grad_cam(net, x, "residual2")
    assert inner.layer == "residual2.4" and len(inner.importance) == len(outer.importance)
    reference.assert_close(inner.alpha, outer.alpha)  # a sum passes its gradient on
    assert not np.allclose(inner.importance, outer.importance)
    block = nn.Sequential(net.layers[0], nn.Residual(nn.ReLU()), nn.GlobalPool(), nn.Linear(4, 2, rng=0))
    assert grad_cam(block.to(np.float64), x).layer == "1"


class TestOnInput:
    def test_centres_of_receptive_fields(self, rng):
        """Cell i of two unpadded filters 2/2 covers cells 4i to 4i + 3."""
        modules = [nn.SparseMaxPool(2, dimension=2), nn.SparseConv(2, 3, 2, 2, dimension=2, rng=0), nn.ReLU(),
                   nn.SparseConv(3, 2, 3, padding=1, dimension=2, rng=0), nn.SparseConv(2, 2, 2, dimension=2, rng=0)]
        found, y = [], batch(rng).astype(np.float32)
        centres = Centres(y.sites)
        for module in modules:
            z = module(y)
            centres.follow(module, y, z)
            found.append([part[0] for part in centres.of(z.sites)])
            y = z
        assert found == [[2, 0.5], [4, 1.5], [4, 1.5], [4, 1.5], [4, 3.5]]

    def test_a_transposed_filter_goes_back_to_finer_centres(self, rng):
        """Of size and stride 2 behind a filter 2/2: each cell lies where it lay."""
        x = batch(rng).astype(np.float32)
        x = x.with_features(x.features, None)
        down = nn.SparseConv(2, 3, 2, 2, dimension=2, rng=0)
        centres, y = Centres(x.sites), down(x)
        centres.follow(down, x, y)
        for up, found in [(nn.TransposedConv(3, 2, 2, 2, dimension=2, rng=0), ([1, 1], [0, 0])),
                          (nn.TransposedConv(3, 2, 3, 2, 1, 1, dimension=2, rng=0), ([1, 1], [0.5, 0.5]))]:
            z = up(y)
            centres.follow(up, y, z)
            assert tuple(part.tolist() for part in centres.of(z.sites)) == found

    def test_back_over_a_filter_the_centres_are_those_before_it(self, rng):
        x = batch(rng).astype(np.float32)
        down = nn.SparseConv(2, 3, 3, 2, dimension=2, rng=0)
        up = nn.InverseConv(3, 2, down, rng=0)
        centres, y = Centres(x.sites), down(x)
        centres.follow(down, x, y)
        centres.follow(up, y, up(y))
        assert centres.of(up(y).sites)[0].tolist() == [1, 1] and centres.of(y.sites)[1].tolist() == [1, 1]
        union = (y + y.with_features(y.features, y.background)).sites.copy()  # of no filter: as those of its size
        assert centres.of(union)[0].tolist() == [2, 2]
        other = ActiveSites(np.zeros((1, 3), int), (5, 2), 3)  # of a new size: over the whole input
        assert [part.tolist() for part in centres.of(other)] == [[2, 5], [0.5, 2]]

    @pytest.mark.parametrize("dimension", [1, 2, 3])
    def test_between_centres_it_is_linear(self, dimension, rng):
        """A linear function of the cell's place is found again, between the outer centres; all cells are active."""
        size, slope = (4, 3, 5)[:dimension], np.array([0.5, -2.0, 1.0])[:dimension]
        cells = np.stack([axis.ravel() for axis in np.indices((2, *size))], axis=1)
        sites = ActiveSites(cells, size, 2)
        step, first = np.full(dimension, 2.0), np.full(dimension, 1.5)
        values = (first + sites.coordinates[:, 1:] * step) @ slope + 10 * sites.coordinates[:, 0]
        at = ActiveSites(reference.random_coordinates(rng, 12, (12,) * dimension, 2), (12,) * dimension, 2)
        found = interpolated(sites, values, np.zeros(2), (step, first), at)
        place = np.clip(at.coordinates[:, 1:], first, first + step * (np.array(size) - 1))
        reference.assert_close(found, place @ slope + 10 * at.coordinates[:, 0])

    def test_inactive_cells_count_as_the_background(self):
        sites, at = ActiveSites([[1, 1]], (3,), 2), ActiveSites([[0, 2], [1, 0], [1, 1], [1, 2], [1, 4]], (6,), 2)
        found = interpolated(sites, np.array([8.0]), np.array([2.0, 4.0]), (np.array([2.0]), np.array([0.0])), at)
        assert found.tolist() == [2, 4, 6, 8, 4]

    def test_of_a_layer_on_the_input_s_sites_it_is_the_layer_s(self, rng):
        net = sn.SparseNetwork(2, in_channels=2, seed=1).add_submanifold(4, 3).add_relu().add_linear(3).to(np.float64)
        x = batch(rng)
        cam = grad_cam(net, x, "relu1", 0)
        assert np.array_equal(cam.on_input, cam.importance) and cam.on_input.any()


@pytest.mark.parametrize(("arguments", "error", "told"), [
    (("conv9",), ValueError, "there is no layer 'conv9', expected one of sparse_network, convolution1"),
    ((10,), ValueError, "layer is 10, expected 1 to 9"),
    (("linear1",), ValueError, "layer 'linear1' returns Tensor, expected a SparseTensor: name one before"),
    ((1, 4), ValueError, "target is 4, expected 0 to 3"), ((1, -1), ValueError, "target is -1"),
    ((1, [0, 1]), ValueError, r"target has dtype int64 and shape \(2,\), expected one integer, or one for each of 3"),
    ((1, 0.5), ValueError, "target has dtype float64"),
])
def test_wrong_arguments(arguments, error, told, rng):
    with pytest.raises(error, match=f"grad_cam: .*{told}"):
        grad_cam(network(), batch(rng), *arguments)


def test_networks_that_do_not_fit(rng):
    x = batch(rng)
    for net, given, error, told in [
            (len, x, TypeError, "net is builtin_function_or_method, expected a Module"),
            (network(), np.ones(3), TypeError, "batch is ndarray, expected a SparseBatch or SparseTensor"),
            (nn.Sequential(nn.ReLU()), x, ValueError, r"returns SparseTensor, expected logits \(3, classes\)"),
            (nn.Sequential(nn.GlobalPool()), x, ValueError, "no layer returns a grid of more than one cell")]:
        with pytest.raises(error, match=f"grad_cam: .*{told}"):
            grad_cam(net, given)
    with sn.no_grad(), pytest.raises(ValueError, match="the logits do not depend on layer 'max_pool1', or this is"):
        grad_cam(network(), x, 3)


def test_each_record_of_a_network_has_its_background_s_gradient(rng):
    """Those of poolings, too, which pass the background of their input on."""
    net, x = network(), batch(rng, samples=2, count=8)
    x.background.requires_grad = True
    records = net.activations(x)
    records[-1].output[:, 1].sum().backward()
    for record in records[:7]:
        grid = record.output.to_dense().numpy()
        tail = dense_layers(net.layers[record.index:])
        outputs, choices = reference.run_forward(tail, grid)
        seed = np.zeros(outputs[-1].shape)
        seed[:, 1] = 1
        gradient, _ = reference.run_backward(tail, grid, outputs, choices, seed)
        reference.assert_close(record.background_gradient, reference.background_gradient(gradient, record.coordinates),
                               record.name)
    assert records[-1].background_gradient is None
