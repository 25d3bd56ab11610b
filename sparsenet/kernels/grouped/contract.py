"""The contracts of grouped convolution: output channels see the input channels of their group."""

from __future__ import annotations

from typing import Any

from sparsenet.kernels.guards import check_view
from sparsenet.kernels.table import Array, Rulebook, Scalar, declare

_GROUPED = {
    "features": Array("feature", "N C_in"),
    "weights": Array("feature", "K J C_out"),  # J = C_in / groups; output channels group by group
    "rulebook": Rulebook("N M K"),
    "constant": Array("feature", "C_out", optional=True),
    "groups": Scalar(int),
}
GROUPED_CONVOLUTION_FORWARD = declare(
    "grouped_convolution_forward", "grouped",
    "out[m] = sum over the pairs (n, m) of each k of features[n] weights[k], group by group, + constant",
    **_GROUPED,
)
GROUPED_CONVOLUTION_FORWARD_BY_ROW = declare(
    "grouped_convolution_forward_by_row", "grouped",
    "the same; the bits of a row depend on no other row",
    **_GROUPED,
)
GROUPED_CONVOLUTION_INPUT_GRADIENT = declare(
    "grouped_convolution_input_gradient", "grouped",
    "out[n] = sum over the pairs (n, m) of each k of gradient[m] weights[k]^T, group by group",
    gradient=Array("feature", "M C_out"),
    weights=Array("feature", "K J C_out"),
    rulebook=Rulebook("N M K"),
    groups=Scalar(int),
)
GROUPED_CONVOLUTION_WEIGHT_GRADIENT = declare(
    "grouped_convolution_weight_gradient", "grouped",
    "out[k] = sum over the pairs (n, m) of k of features[n]^T gradient[m], group by group",
    features=Array("feature", "N C_in"),
    gradient=Array("feature", "M C_out"),
    rulebook=Rulebook("N M K"),
    groups=Scalar(int),
)


def _guard_channels(kernel: Any) -> None:
    def groups_divide(c_in, c_out, groups):
        if groups < 1 or c_in % groups or c_out % groups:
            raise ValueError(f"{kernel.name}: {c_in} to {c_out} channels in {groups} groups, expected a number of "
                             "groups that divides both")

    def forward(features, weights, groups):
        c_in = weights.shape[1] * groups
        if features.shape[1] != c_in:
            raise ValueError(f"{kernel.name}: features have {features.shape[1]} channels, the weights expect {c_in} in "
                             f"{groups} groups")
        groups_divide(c_in, weights.shape[2], groups)

    def check(rulebook, c_in, c_out, groups, backend):
        for view in kernel.views_read(rulebook, c_in, c_out, groups, backend=backend):
            check_view(kernel.name, rulebook, view)

    if "weights" not in kernel.arguments:
        kernel.guard("always")(lambda features, gradient, groups: groups_divide(
            features.shape[1], gradient.shape[1], groups))
        kernel.guard("checking")(lambda rulebook, features, gradient, groups, backend: check(
            rulebook, features.shape[1], gradient.shape[1], groups, backend))
        return
    if "features" in kernel.arguments:
        kernel.guard("always")(forward)
    else:
        kernel.guard("always")(lambda weights, groups: groups_divide(
            weights.shape[1] * groups, weights.shape[2], groups))
    kernel.guard("checking")(lambda rulebook, weights, groups, backend: check(
        rulebook, weights.shape[1] * groups, weights.shape[2], groups, backend))


for _kernel in (GROUPED_CONVOLUTION_FORWARD, GROUPED_CONVOLUTION_FORWARD_BY_ROW, GROUPED_CONVOLUTION_INPUT_GRADIENT,
                GROUPED_CONVOLUTION_WEIGHT_GRADIENT):
    _guard_channels(_kernel)
