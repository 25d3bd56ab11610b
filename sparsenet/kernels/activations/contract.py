"""The contracts of activations, which map the background in the same launch."""

from __future__ import annotations

from typing import Any

from sparsenet.kernels.table import Array, Scalar, declare

LEAKY_RELU_FORWARD = declare(
    "leaky_relu_forward", "activations",
    "out = x if x > 0, else slope * x; also of the background",
    x=Array("feature", "N C"),
    slope=Scalar(float),
    background=Array("feature", "G D", optional=True),
)
LEAKY_RELU_BACKWARD = declare(
    "leaky_relu_backward", "activations",
    "out = gradient if reference > 0, else slope * gradient; also of background_gradient",
    reference=Array("feature", "N C"),
    gradient=Array("feature", "N C"),
    slope=Scalar(float),
    background=Array("feature", "G D", optional=True),
    background_gradient=Array("feature", "G D", optional=True),
)

ELU, GELU, SILU, TANH, SIGMOID = range(5)  # `kind`: the order of activations/exponentials.cu

ACTIVATION_FORWARD = declare(
    "activation_forward", "activations",
    "out = f(x): x or alpha (e^x - 1); x P(X <= x); x / (1 + e^-x); tanh x; 1 / (1 + e^-x); also of the background",
    x=Array("feature", "N C"),
    kind=Scalar(int),
    alpha=Scalar(float),  # of ELU
    background=Array("feature", "G D", optional=True),
)
ACTIVATION_BACKWARD = declare(
    "activation_backward", "activations",
    "out = gradient * f', from x if f is GELU or SiLU, else from f(x); also of background_gradient",
    kept=Array("feature", "N C"),
    gradient=Array("feature", "N C"),
    kind=Scalar(int),
    alpha=Scalar(float),
    background=Array("feature", "G D", optional=True),
    background_gradient=Array("feature", "G D", optional=True),
)


def _guard_kind(kernel: Any) -> None:
    def kind_is_known(kind):
        if kind not in (ELU, GELU, SILU, TANH, SIGMOID):
            raise ValueError(f"{kernel.name}: kind is {kind}, expected ELU, GELU, SILU, TANH or SIGMOID of this module")

    kernel.guard("always")(kind_is_known)


_guard_kind(ACTIVATION_FORWARD)
_guard_kind(ACTIVATION_BACKWARD)

_PRELU_INPUTS = {
    "slope": Array("feature", "S"),  # one for each channel, or one for all
    "background": Array("feature", "G C", optional=True),
}
PRELU_FORWARD = declare(
    "prelu_forward", "activations",
    "out = x if x > 0, else slope[channel] * x; also of the background",
    x=Array("feature", "N C"),
    **_PRELU_INPUTS,
)
PRELU_BACKWARD = declare(
    "prelu_backward", "activations",
    "gradient if x > 0, else slope * gradient; also of background_gradient; that of the slope, the sum of both's x * "
    "gradient where x <= 0",
    x=Array("feature", "N C"),
    gradient=Array("feature", "N C"),
    **_PRELU_INPUTS,
    background_gradient=Array("feature", "G C", optional=True),
)


def _guard_slopes(kernel: Any) -> None:
    def one_or_one_each(x, slope):
        if len(slope) not in (1, x.shape[1]):
            raise ValueError(f"{kernel.name}: slope has {len(slope)} numbers, expected 1, or one for each of the "
                             f"{x.shape[1]} channels")

    kernel.guard("always")(one_or_one_each)


_guard_slopes(PRELU_FORWARD)
_guard_slopes(PRELU_BACKWARD)

SOFTMAX_FORWARD = declare(
    "softmax_forward", "activations",
    "out[n] = e^x[n] / sum of e^x[n]; also of the background",
    x=Array("feature", "N C"),
    background=Array("feature", "G C", optional=True),
)
SOFTMAX_BACKWARD = declare(
    "softmax_backward", "activations",
    "out[n] = y[n] * (gradient[n] - sum of y[n] * gradient[n]), y the softmax; also of background_gradient",
    y=Array("feature", "N C"),
    gradient=Array("feature", "N C"),
    background=Array("feature", "G C", optional=True),
    background_gradient=Array("feature", "G C", optional=True),
)
