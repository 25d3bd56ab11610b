"""Networks that have a dense equivalent, and inputs for them: the cases of the tests of each kind of export."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import reference

import sparsenet as sn
from sparsenet import nn

SIDE = 9
BACKGROUND = np.array([0.3, -0.4])  # differs by channel


class Both(nn.Module):
    """The channels of two layers side by side: a layer of a user's."""

    def __init__(self, first: nn.Module, second: nn.Module):
        self.first, self.second = first, second

    def forward(self, x):
        return sn.ops.concatenate(self.first(x), self.second(x))


@sn.export.dense_equivalent(Both)
def both(graph, name, layer, x):
    return graph.concatenate(name, graph.inner(name, "first", layer.first, x),
                             graph.inner(name, "second", layer.second, x))


def network(dimension: int) -> nn.SparseNetwork:
    return sn.SparseNetwork(dimension, in_channels=2, seed=4, field=SIDE)


def padded(dimension: int) -> nn.SparseNetwork:
    """Convolutions that pad with the background, which is not zero and differs by channel; the output is a grid."""
    net = network(dimension).add_convolution(4, 3, stride=2, padding=1).add_batch_norm(eps=1e-3).add_relu()
    return net.add_convolution(5, 3, padding=2, dilation=2, bias=False).add_leaky_relu(0.2).add_max_pool(2, 1)


def branching(dimension: int) -> nn.SparseNetwork:
    """Sums and channels side by side, within one another."""
    def conv(channels: int, size: int = 3) -> nn.SparseConv:
        return nn.SparseConv(channels, 6, size, padding=size // 2, dimension=dimension, rng=1)

    inner = nn.Residual(conv(6), nn.BatchNorm(6), nn.ReLU(), shortcut=nn.Sequential(conv(6, 1), nn.BatchNorm(6)))
    net = network(dimension).add_convolution(6, 3).add_residual(inner, nn.Dropout(0.5))
    net.add(Both(conv(6), nn.LeakyReLU(0.3)))
    return net.add(nn.SparseConv(12, 3, (2,) * dimension, (1,) * (dimension - 1) + (2,), rng=2)).add(nn.ToDense())


def pooled(mode: str) -> Callable[[int], nn.SparseNetwork]:
    def build(dimension: int) -> nn.SparseNetwork:
        net = network(dimension).add_convolution(6, 3, padding=1).add_max_pool(3, 2).add_global_pool(mode)
        return net.add_batch_norm().add_dropout(0.3).add_linear(5, bias=mode == "mean").add_leaky_relu()
    return build


def cosine(dimension: int) -> nn.SparseNetwork:
    return network(dimension).add_convolution(6, 2, stride=2).add_relu().add_cosine_linear(4, scale=9.0)


def activated(dimension: int) -> nn.SparseNetwork:
    """Each activation on a grid or on rows, PReLU and Softmax on both."""
    def slopes() -> nn.PReLU:
        layer = nn.PReLU(4)
        layer.weight.array = np.linspace(-0.5, 0.7, 4, dtype=np.float32)
        return layer

    net = network(dimension).add_convolution(4, 3).add_elu(0.7).add(slopes()).add_convolution(4, 3).add_silu()
    net = net.add_prelu(-0.4, shared=True).add(nn.Checkpoint(nn.GELU(), nn.Dropout())).add_softmax()
    net = net.add_convolution(4, 3).add_tanh().add_global_pool("max").add(slopes()).add_linear(4).add_sigmoid()
    return net.add_prelu(0.3, shared=True).add_linear(5).add_elu().add_gelu().add_silu().add_softmax()


def axes(dimension: int) -> nn.SparseNetwork:
    """Softmax over the channels of sites and over an axis of a grid, which is -1 of both."""
    net = network(dimension).add_convolution(3, 2).add(nn.Softmax(1)).add(nn.Softmax()).add(nn.ToDense())
    return net.add(nn.Softmax()).add(nn.Softmax(1)).add(nn.PReLU(1, -0.2))


def averaged(dimension: int) -> nn.SparseNetwork:
    """Poolings with padding, also of windows that differ by axis; most windows at a border are below zero."""
    net = network(dimension).add_convolution(4, 2).add_average_pool(3, 2, 1).add_sum_pool(2, 1).add_max_pool(2, 1, 1)
    more = (0,) * (dimension - 1)
    return net.add(nn.SparseAvgPool((*[2] * len(more), 3), (*[1] * len(more), 2), (*more, 1)))


def upsampled(dimension: int) -> nn.SparseNetwork:
    """To a spatial size that the copies fill, exceed, or do not reach; maps of the channels of each cell."""
    net = network(dimension).add_convolution(3, 3, stride=2).add_upsample(2, SIDE).add_linear(4, on_sites=True)
    net = net.add_tanh().add_convolution(4, 3, stride=2, padding=1)
    net = net.add_upsample((*[2] * (dimension - 1), 1), (*[SIDE] * (dimension - 1), 7)).add_max_pool(3, 3)
    return net.add_linear(3, bias=False, on_sites=True).add_upsample(2).add_max_pool(2).add_upsample(3, 5)


def normed(dimension: int) -> nn.SparseNetwork:
    """Norms of a cell and of a sample, of grids and of rows; their weights differ by channel."""
    net = network(dimension).add_convolution(6, 3, stride=2, padding=1).add_layer_norm(1e-3)
    net = net.add_instance_norm(1e-4, "grid").add_max_pool(2, 1).add_group_norm(3, 1e-3, "grid").add_relu()
    net = net.add_global_pool("max").add_layer_norm().add_linear(4).add_group_norm(2)
    for layer in net.layers:
        if isinstance(layer, nn.LayerNorm | nn.InstanceNorm | nn.GroupNorm):
            layer.weight.array = np.linspace(-0.5, 1.5, layer.channels, dtype=np.float32)
    return net


def grouped(dimension: int) -> nn.SparseNetwork:
    """Convolutions in groups, a group for each channel included, with padding that holds the background."""
    net = network(dimension).add_convolution(6, 3, 2, 1, groups=2).add_relu()
    net = net.add_convolution(12, 2, padding=1, groups=6, bias=False).add_leaky_relu(0.2)
    return net.add_convolution(6, 2, dilation=2, groups=3)


def skipped(dimension: int) -> nn.SparseNetwork:
    """A U-Net that goes back by upsampling, one level within another; the copies fill one grid and not the other."""
    def halved(size: int, padding: int, seed: int) -> nn.SparseConv:
        return nn.SparseConv(4, 4, size, 2, padding, dimension=dimension, rng=seed)

    inner = nn.Skip(halved(2, 0, 1), nn.ReLU(), nn.Upsample(2, 5))
    net = network(dimension).add_convolution(4, 3, padding=1).add_relu()
    return net.add_skip(halved(3, 1, 2), inner, nn.Upsample(2, SIDE)).add_convolution(3, 3, padding=1)


def transposed(dimension: int, groups: int) -> nn.SparseNetwork:
    """For a zero background alone, so not among NETWORKS."""
    net = network(dimension).add_transposed_convolution(4, (*[3] * (dimension - 1), 2), 2, 1, 1, groups).add_relu()
    return net.add_convolution(3, 3)


def on_zeros(x: sn.SparseTensor) -> sn.SparseTensor:
    """The same features on a zero background."""
    return x.with_features(x.features, sn.Tensor(np.zeros(2, x.dtype)))


NETWORKS = {"padded": padded, "branching": branching, **{f"{mode} pooled": pooled(mode) for mode in
                                                         ("mean", "max", "sum")}, "cosine": cosine,
            "activated": activated, "axes": axes, "averaged": averaged, "upsampled": upsampled,
            "normed": normed, "grouped": grouped, "skipped": skipped}


def trained(net: nn.Module, rng: np.random.Generator, dtype: str = "float32") -> nn.Module:
    """The network in evaluation mode, with biases and running statistics that are not the first ones."""
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if not name.endswith("weight"):
            low, high = (0.5, 2.0) if name.endswith("running_var") else (-0.5, 0.5)
            tensor.array = rng.uniform(low, high, tensor.shape).astype(tensor.dtype)
    return net.to(dtype).eval()


def batch(dimension: int, rng: np.random.Generator, dtype: str = "float32") -> sn.SparseTensor:
    """Three samples, the second without a site."""
    cells = reference.random_coordinates(rng, 5 * dimension, (SIDE,) * dimension, 3, empty=(1,))
    features = rng.standard_normal((len(cells), 2)).astype(dtype)
    return sn.SparseTensor(features, cells, (SIDE,) * dimension, 3, BACKGROUND.astype(dtype))


def dense_output(net: nn.Module, x: sn.SparseTensor) -> np.ndarray:
    """The output of the sparse network, inactive cells included."""
    with sn.no_grad():
        output = net(x)
    return (output.to_dense() if isinstance(output, sn.SparseTensor) else output).numpy()
