"""The network of the paper (Notchenko, Kapushev, Burnaev 2016), Table 1."""

from __future__ import annotations

from collections.abc import Sequence

from sparsenet.nn.network import SparseNetwork

CHANNELS = (32, 64, 96, 128, 160, 192)
SLOPE = 0.33


def s3dcnn(num_classes: int | None = None, seed: int = 0, channels: Sequence[int] = CHANNELS, in_channels: int = 1,
           dimension: int = 3) -> SparseNetwork:
    """S3DCNN: levels of conv 2/1 -> leaky ReLU 0.33 -> max-pool 3/2, then conv 2/1 -> leaky ReLU.

        126 -conv- 125 -pool- 62 -conv- 61 -pool- 30 - 29 - 14 - 13 - 6 - 5 - 2 -conv- 1

    Layer 17 gives the descriptor, on a grid of one cell; layer 18 (GlobalPool) hands it on as a
    Tensor (B, 192), empty samples included; with classes layer 19 (Linear) gives the logits.
    574,368 weights and biases without the classifier.

    Parameters
    ----------
    num_classes : ends in logits (B, num_classes); None: in the descriptor (B, channels[-1])
    seed : of the first weights
    channels : of each convolution; L+1 of them make L levels and set the field, 2^(L+2) - 2:
        3 -> 14, 4 -> 30, 5 -> 62, 6 -> 126.  `net.field` tells it
    in_channels : of the input
    dimension : D, 1 to 4

    Raises
    ------
    ValueError : no channels.  When called, an input whose spatial size is not `net.field`.
    """
    if isinstance(channels, str) or not isinstance(channels, Sequence) or not channels:
        raise ValueError(f"s3dcnn: channels is {channels!r}, expected a sequence of at least one number, such as "
                         "(32, 64, 96)")
    net = SparseNetwork(dimension, in_channels, seed)
    for out_channels in channels[:-1]:
        net.add_convolution(out_channels, 2).add_leaky_relu(SLOPE).add_max_pool(3, 2)
    net.add_convolution(channels[-1], 2).add_leaky_relu(SLOPE)
    net.field = net.field_for(1)
    net.add_global_pool("mean")
    return net if num_classes is None else net.add_linear(num_classes)
