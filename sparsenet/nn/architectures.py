"""Named networks: the paper's S3DCNN (Notchenko, Kapushev, Burnaev 2016, Table 1), a residual network and a U-Net."""

from __future__ import annotations

from collections.abc import Sequence

from sparsenet.nn.layer_list import Layer, network_of
from sparsenet.nn.layers import SparseConv, SubmanifoldConv
from sparsenet.nn.leaky_relu import ReLU
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
    _check_blocks("resnet", blocks)
    net = SparseNetwork(dimension, in_channels, seed)
    net.add_submanifold(channels[0], 3, bias=False).add_batch_norm().add_relu()
    for level, out_channels in enumerate(channels):
        for block in range(blocks):
            _add_block(net, out_channels, halves=level > 0 and block == 0)
    net.field = net.field_for(LAST_SIDE)
    net.add_global_pool("mean")
    return net if num_classes is None else net.add_linear(num_classes)


def unet(num_classes: int | None = None, seed: int = 0, channels: Sequence[int] = (32, 64, 128, 256), blocks: int = 1,
         in_channels: int = 1, dimension: int = 3) -> SparseNetwork:
    """A U-Net (Ronneberger et al. 2015; Graham et al. 2018) with residual blocks: its result has a row for each site.

        level 1   submanifold 3/1 - blocks ------------------- beside it - blocks - classifier
                                       \\                      /
        level 2              convolution 2/2 - blocks - inverse convolution
                                       ...

    Every convolution but the classifier has no bias, and is followed by batch norm and ReLU.  A block is a residual
    block of two submanifold convolutions 3/1, and a ReLU.  From a level to the next, a convolution 2/2 halves the grid;
    the way back is an InverseConv to the very sites that it came from, whose features (a `Skip`) stand behind its own.

    The result stands on the input's sites, in their order, whatever the order in which their coordinates were given:
    `x.in_given_order(net(x).features)` has a row for each of these.

    Any spatial size of at least 2^(L-1) cells a side will do, with L levels.  `nn.layer_list` says the same network as
    a list of layers, with the kind "skip".

    Parameters
    ----------
    num_classes : the network returns logits, (N, num_classes) features; None: (N, channels[0]) features
    seed : seed of the initial weights
    channels : channels of each level, from the finest.  L levels halve the grid L-1 times: sides that are multiples of
        2^(L-1) lose nothing; of others, a last plane of cells lies under no filter of a convolution 2/2, and learns of
        the coarser levels from its neighbours alone
    blocks : blocks at each level, on the way down and on the way up
    in_channels : channels of the input
    dimension : D, 1 to 4

    Raises
    ------
    ValueError : channels is empty, or blocks is less than 1; when called, the grid is too small.
    """
    _check_channels("unet", channels)
    _check_blocks("unet", blocks)
    layers = [*_convolved("submanifold", channels[0], size=3), *_level(list(channels), blocks)]
    net = network_of(layers, dimension, in_channels, seed)
    return net if num_classes is None else net.add_submanifold(num_classes, 1)


def _level(channels: list[int], blocks: int) -> list[Layer | str]:
    """The layers of a level of a U-Net and of those below it: channels[0] channels in and out."""
    own, *below = channels
    layers = _blocks(own, blocks)
    if not below:
        return layers
    inner = [*_convolved("convolution", below[0], size=2, stride=2), *_level(below, blocks),
             *_convolved("inverse_convolution", own, layer="convolution1")]
    narrows: Layer = {"shortcut": [{"kind": "submanifold", "channels": own, "size": 1, "bias": False}, "batch_norm"]}
    return [*layers, {"kind": "skip", "layers": inner}, *_blocks(own, blocks, narrows)]


def _blocks(channels: int, count: int, first: Layer | None = None) -> list[Layer | str]:
    """Residual blocks, each with a ReLU behind it.  first : further settings of the first one"""
    same: Layer = {"kind": "submanifold", "channels": channels, "size": 3, "bias": False}
    block: Layer = {"kind": "residual", "layers": [same, "batch_norm", "relu", same, "batch_norm"]}
    return [layer for number in range(count) for layer in (block | ({} if number else first or {}), "relu")]


def _convolved(kind: str, channels: int, **settings: object) -> list[Layer | str]:
    """A convolution without bias, batch norm and ReLU."""
    return [{"kind": kind, "channels": channels, "bias": False, **settings}, "batch_norm", "relu"]


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


def _check_blocks(name: str, blocks: int) -> None:
    if not isinstance(blocks, int) or blocks < 1:
        raise ValueError(f"{name}: blocks is {blocks!r}, expected a whole number, 1 or more")
