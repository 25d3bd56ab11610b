"""Named networks: the paper's S3DCNN (Notchenko, Kapushev, Burnaev 2016, Table 1), and a residual network."""

from __future__ import annotations

from collections.abc import Sequence

from sparsenet.nn.activation_layers import ReLU
from sparsenet.nn.layers import SparseConv, SubmanifoldConv
from sparsenet.nn.module import Module
from sparsenet.nn.network import SparseNetwork
from sparsenet.nn.norms import BatchNorm
from sparsenet.nn.sequential import Sequential
from sparsenet.random import keyed_rng

CHANNELS = (32, 64, 96, 128, 160, 192)
SLOPE = 0.33
NORMS = (None, "batch")
LAST_SIDE = 4  # cells along a side of a residual network's last grid


def s3dcnn(num_classes: int | None = None, seed: int = 0, channels: Sequence[int] = CHANNELS, in_channels: int = 1,
           dimension: int = 3, norm: str | None = None) -> SparseNetwork:
    """S3DCNN: levels of conv 2/1 -> leaky ReLU 0.33 -> max-pool 3/2, then conv 2/1 -> leaky ReLU.

        126 -conv- 125 -pool- 62 -conv- 61 -pool- 30 - 29 - 14 - 13 - 6 - 5 - 2 -conv- 1

    The output of layer 17 is the descriptor, on a grid of one cell; layer 18 (GlobalPool) turns it into a
    Tensor (B, 192), empty samples included; with classes, layer 19 (Linear) computes the logits.
    574,368 weights and biases without the classifier.

    Parameters
    ----------
    num_classes : the network returns logits (B, num_classes); None: descriptors (B, channels[-1])
    seed : seed of the initial weights
    channels : output channels of each convolution; L+1 of them make L levels and determine the side of the input
        grid, 2^(L+2) - 2: 3 -> 14, 4 -> 30, 5 -> 62, 6 -> 126 (`net.field`)
    in_channels : channels of the input
    dimension : D, 1 to 4
    norm : "batch": a BatchNorm after each convolution, which then has no bias; None: no norm, as in the paper.  With
        norms the descriptor is the output of layer 23

    Raises
    ------
    ValueError : channels is empty, or norm is unknown; when called, the input's spatial size is not `net.field`.
    """
    _check_channels("s3dcnn", channels)
    if norm not in NORMS:
        raise ValueError(f"s3dcnn: norm is {norm!r}, expected one of {', '.join(map(repr, NORMS))}")
    net = SparseNetwork(dimension, in_channels, seed)
    for level, out_channels in enumerate(channels):
        if level:
            net.add_max_pool(3, 2)
        net.add_convolution(out_channels, 2, bias=norm is None)
        if norm is not None:
            net.add_batch_norm()
        net.add_leaky_relu(SLOPE)
    net.field = net.field_for(1)
    net.add_global_pool("mean")
    return net if num_classes is None else net.add_linear(num_classes)


def resnet(num_classes: int | None = None, seed: int = 0, channels: Sequence[int] = (32, 64, 96, 128), blocks: int = 1,
           in_channels: int = 1, dimension: int = 3) -> SparseNetwork:
    """A residual network (He et al. 2016) of submanifold convolutions 3/1, with batch norm and ReLU.

    Each level has `blocks` residual blocks of two convolutions; the first block of each level but the first halves the
    grid with a convolution 2/2, and with another in its shortcut.  The last level's grid has 4 cells a side; the mean
    over its cells (GlobalPool) is the descriptor.

    Parameters
    ----------
    num_classes : the network returns logits (B, num_classes); None: descriptors (B, channels[-1])
    seed : seed of the initial weights
    channels : channels of each level; L of them determine the side of the input grid, 2^(L+1): 2 -> 8, 3 -> 16,
        4 -> 32, 5 -> 64 (`net.field`)
    blocks : residual blocks per level
    in_channels : channels of the input
    dimension : D, 1 to 4

    Raises
    ------
    ValueError : channels is empty, or blocks is less than 1; when called, the input's spatial size is not `net.field`.
    """
    _check_channels("resnet", channels)
    if not isinstance(blocks, int) or blocks < 1:
        raise ValueError(f"resnet: blocks is {blocks!r}, expected a whole number, 1 or more")
    net = SparseNetwork(dimension, in_channels, seed)
    net.add_submanifold(channels[0], 3, bias=False).add_batch_norm().add_relu()
    for level, out_channels in enumerate(channels):
        for block in range(blocks):
            _add_block(net, out_channels, halves=level > 0 and block == 0)
    net.field = net.field_for(LAST_SIDE)
    net.add_global_pool("mean")
    return net if num_classes is None else net.add_linear(num_classes)


def _add_block(net: SparseNetwork, out_channels: int, halves: bool) -> None:
    """Append a residual block and a ReLU."""
    channels, place, dimension = net.out_channels, len(net.layers), net.dimension
    streams = (keyed_rng(net.seed, "weights", place, number) for number in range(3))

    def same(channels: int) -> SubmanifoldConv:
        return SubmanifoldConv(channels, out_channels, 3, bias=False, dimension=dimension, rng=next(streams))

    def half() -> SparseConv:
        return SparseConv(channels, out_channels, 2, 2, bias=False, dimension=dimension, rng=next(streams))

    first: Module = half() if halves else same(channels)
    net.add_residual(first, BatchNorm(out_channels), ReLU(), same(out_channels), BatchNorm(out_channels),
                     shortcut=Sequential(half(), BatchNorm(out_channels)) if halves else None).add_relu()


def _check_channels(name: str, channels: Sequence[int]) -> None:
    if isinstance(channels, str) or not isinstance(channels, Sequence) or not channels:
        raise ValueError(f"{name}: channels is {channels!r}, expected a sequence of at least one number, such as "
                         "(32, 64, 96)")
