"""The contracts of losses, each with its gradient."""

from __future__ import annotations

from sparsenet.kernels.table import Array, Scalar, declare

COSINE, L2, SQUARED_L2 = range(3)  # `distance`: the order of ops.triplet_loss.DISTANCES and of losses/triplet_loss.cu

SOFTMAX_CROSS_ENTROPY = declare(
    "softmax_cross_entropy", "losses",
    "loss = mean of log(sum of e^logits) - logits[label]",
    logits=Array("float", "B C"),
    labels=Array("int64", "B"),
    with_gradient=Scalar(bool),
)
TRIPLET_LOSS = declare(
    "triplet_loss", "losses",
    "loss = mean of max(0, margin + d(anchor, positive) - d(anchor, negative))",
    anchor=Array("float", "T C"),
    positive=Array("float", "T C"),
    negative=Array("float", "T C"),
    margin=Scalar(float),
    distance=Scalar(int),
    with_gradient=Scalar(bool),
)
SCALE_GRADIENT = declare(
    "scale_gradient", "losses", "gradient *= factor", gradient=Array("float", "N"), factor=Array("float", ""))


@SOFTMAX_CROSS_ENTROPY.guard("always")
def _there_is_a_class(logits):
    if not logits.shape[1]:
        raise ValueError(f"softmax_cross_entropy: logits has shape {logits.shape}, expected at least one class")


@TRIPLET_LOSS.guard("always")
def _distance_is_known(distance):
    if distance not in (COSINE, L2, SQUARED_L2):
        raise ValueError(f"triplet_loss: distance is {distance}, expected COSINE, L2 or SQUARED_L2 of this module")
