"""The contracts of a level (convolution, leaky ReLU, max-pooling if it follows) apart from its convolutions."""

from __future__ import annotations

from sparsenet.kernels.table import Array, Scalar, declare

LEVEL_BACKGROUND = declare(
    "level_background", "level",
    "constant = background sum_k weights[k] + bias; its leaky ReLU; sum_k weights[k]; weights transposed",
    weights=Array("feature", "K C_in C_out"),
    background=Array("feature", "C_in", optional=True),
    bias=Array("feature", "C_out", optional=True),
    slope=Scalar(float),
    reversed=Scalar(bool),
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
