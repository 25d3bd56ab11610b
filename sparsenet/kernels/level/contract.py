"""The contracts of a level (convolution, leaky ReLU, max-pooling if it follows) apart from its convolutions."""

from __future__ import annotations

from sparsenet.kernels.table import Array, Arrays, Scalar, declare

LEVEL_BACKGROUNDS = declare(
    "level_backgrounds", "level",
    "for one level after another: constant = background sum_k weights[k] + bias; its leaky ReLU, the next one's "
    "background; sum_k weights[k]; weights transposed",
    weights=Arrays("feature", "K C_in C_out"),
    biases="for each level an array (C_out,) of the weights' dtype, or None",
    background=Array("feature", "C", optional=True),  # of the first level
    slopes="a float for each level",
    reversed="a bool for each level",
    with_gradient=Scalar(bool),
)
LEVEL_GRADIENT = declare(
    "level_gradient", "level",
    "the gradients of the convolution's output, of its constant, and of its input's background",
    gradient=Array("feature", "M C"),
    argmax=Array("int16", "M C", optional=True),
    transposed_neighbours=Array("int32", "N K", optional=True),
    activated=Array("feature", "N C"),
    constant=Array("feature", "C"),
    output_background_gradient=Array("feature", "C", optional=True),
    slope=Scalar(float),
    total_weight=Array("feature", "C_in C", optional=True),
)


@LEVEL_BACKGROUNDS.guard("always")
def _levels_fit_each_other(weights, biases, background, slopes, reversed):
    if not len(weights) == len(biases) == len(slopes) == len(reversed):
        raise ValueError(f"level_backgrounds: {len(weights)} weights, {len(biases)} biases, {len(slopes)} slopes, "
                         f"{len(reversed)} of reversed, expected one of each for each level")
    channels = None if background is None else len(background)
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        _, c_in, c_out = weight.shape
        if channels not in (None, c_in):
            raise ValueError(f"level_backgrounds: level {number} has weights for {c_in} channels, expected {channels}: "
                             f"build the layer with in_channels={channels}")
        if bias is not None and (bias.shape != (c_out,) or bias.dtype != weight.dtype):
            raise ValueError(f"level_backgrounds: the bias of level {number} is {bias.dtype} of shape {bias.shape}, "
                             f"expected {weight.dtype} of shape ({c_out},)")
        channels = c_out
