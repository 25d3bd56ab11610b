"""The contracts of convolution: the pairs (n, m) of offset k are those of the rulebook."""

from __future__ import annotations

from typing import Any

from sparsenet.kernels.guards import check_view
from sparsenet.kernels.table import Array, Rulebook, Scalar, declare

_CONVOLUTION = {
    "features": Array("feature", "N C_in"),
    "weights": Array("feature", "K C_in C_out"),
    "rulebook": Rulebook("N M K"),
    "constant": Array("feature", "C_out", optional=True),
}
CONVOLUTION_FORWARD = declare(
    "convolution_forward", "convolution",
    "out[m] = sum over the pairs (n, m) of each k of features[n] weights[k], + constant; through a leaky ReLU if given "
    "a slope",
    **_CONVOLUTION,
    slope=Scalar(float, optional=True),
)
CONVOLUTION_FORWARD_BY_ROW = declare(
    "convolution_forward_by_row", "convolution",
    "the same; the bits of a row depend on no other row",
    **_CONVOLUTION,
    slope=Scalar(float, optional=True),
)
CONVOLUTION_INPUT_GRADIENT = declare(
    "convolution_input_gradient", "convolution",
    "out[n] = sum over the pairs (n, m) of each k of gradient[m] weights[k]^T",
    gradient=Array("feature", "M C_out"),
    weights=Array("feature", "K C_in C_out"),
    rulebook=Rulebook("N M K"),
    turned=Array("feature", "K C_out C_in", optional=True),  # as `level_backgrounds` makes them; derived if not given
)
CONVOLUTION_WEIGHT_GRADIENT = declare(
    "convolution_weight_gradient", "convolution",
    "out[k] = sum over the pairs (n, m) of k of features[n]^T gradient[m], + background^T constant_gradient",
    features=Array("feature", "N C_in"),
    gradient=Array("feature", "M C_out"),
    rulebook=Rulebook("N M K"),
    background=Array("feature", "C_in", optional=True),
    constant_gradient=Array("feature", "C_out", optional=True),
)


def _guard_views(kernel: Any) -> None:
    """Check the views that the backend reads."""

    def check(rulebook, channels, backend):
        for view in kernel.views_read(rulebook, *channels, backend=backend):
            check_view(kernel.name, rulebook, view)

    if "weights" in kernel.arguments:
        kernel.guard("checking")(lambda rulebook, weights, backend: check(rulebook, weights.shape[1:], backend))
    else:
        kernel.guard("checking")(lambda rulebook, features, gradient, backend: check(
            rulebook, (features.shape[1], gradient.shape[1]), backend))


for _kernel in (CONVOLUTION_FORWARD, CONVOLUTION_FORWARD_BY_ROW, CONVOLUTION_INPUT_GRADIENT,
                CONVOLUTION_WEIGHT_GRADIENT):
    _guard_views(_kernel)
