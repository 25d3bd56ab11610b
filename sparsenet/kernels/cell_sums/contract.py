"""The contracts of sums and means over all cells of a sample."""

from __future__ import annotations

from sparsenet.kernels.table import Array, Scalar, declare

CELL_SUMS = declare(
    "cell_sums", "cell_sums",
    "out[b] = (sum over the sites of b of features[n] + (cells - sites of b) background) / divisor",
    features=Array("feature", "N C"),
    splits=Array("int64", "B1"),
    background=Array("feature", "G C", optional=True),
    cells=Scalar(int),
    mean=Scalar(bool),
)
CELL_SUMS_BACKWARD = declare(
    "cell_sums_backward", "cell_sums",
    "gradient[b] / divisor at the sites of b; (cells - sites of b) times as much for the background",
    gradient=Array("feature", "B C"),
    splits=Array("int64", "B1"),
    coordinates=Array("int32", "N D1"),
    background_rows=Scalar(int),
    cells=Scalar(int),
    mean=Scalar(bool),
)
