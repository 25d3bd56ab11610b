"""The contracts of the steps of optimizers, of many parameters in one launch."""

from __future__ import annotations

from sparsenet.kernels.table import Arrays, Scalar, declare

SGD_STEP = declare(
    "sgd_step", "optim",
    "v = momentum * v + (1 - dampening) * (gradient / loss_scale + weight_decay * parameter); parameter -= lr * v",
    parameters=Arrays("feature", "N"),
    gradients=Arrays("feature", "N"),
    velocities=Arrays("wide", "N", optional=True),
    masters=Arrays("wide", "N", optional=True),
    lr=Scalar(float),
    momentum=Scalar(float),
    dampening=Scalar(float),
    nesterov=Scalar(bool),
    weight_decay=Scalar(float),
    loss_scale=Scalar(float),
)
ADAM_STEP = declare(
    "adam_step", "optim",
    "m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2, with g = gradient / loss_scale + weight_decay"
    " * parameter; parameter -= lr * (m / (1 - beta1^steps)) / (sqrt(v / (1 - beta2^steps)) + eps)",
    parameters=Arrays("feature", "N"),
    gradients=Arrays("feature", "N"),
    means=Arrays("wide", "N"),
    squares=Arrays("wide", "N"),
    maxima=Arrays("wide", "N", optional=True),
    masters=Arrays("wide", "N", optional=True),
    lr=Scalar(float),
    beta1=Scalar(float),
    beta2=Scalar(float),
    eps=Scalar(float),
    weight_decay=Scalar(float),
    decoupled=Scalar(bool),
    steps=Scalar(int),
    loss_scale=Scalar(float),
)


@SGD_STEP.guard("always")
def _masters_are_for_float16(masters, backend):
    if masters is not None and backend != "cuda":
        raise ValueError("sgd_step: masters are given, expected None on a CPU, which has no float16 parameters")


@ADAM_STEP.guard("always")
def _masters_are_for_float16_here_too(masters, backend):
    if masters is not None and backend != "cuda":
        raise ValueError("adam_step: masters are given, expected None on a CPU, which has no float16 parameters")


@ADAM_STEP.guard("always")
def _nothing_is_divided_by_zero(beta1, beta2, eps, steps):
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1 and eps > 0 and steps >= 1):
        raise ValueError(f"adam_step: beta1 is {beta1}, beta2 {beta2}, eps {eps}, steps {steps}, expected betas of at "
                         "least 0 and below 1, eps above 0, and the number of this step, from 1")
