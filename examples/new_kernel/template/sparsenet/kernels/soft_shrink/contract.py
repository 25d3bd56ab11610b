"""The contracts of soft shrinkage."""

from __future__ import annotations

from typing import Any

from sparsenet.kernels.table import Array, Scalar, declare

SOFT_SHRINK_FORWARD = declare(
    "soft_shrink_forward", "soft_shrink",
    "out = x - limit if x > limit, x + limit if x < -limit, else 0",
    x=Array("feature", "N C"),
    limit=Scalar(float),
)
SOFT_SHRINK_BACKWARD = declare(
    "soft_shrink_backward", "soft_shrink",
    "out = gradient if |x| > limit, else 0",
    x=Array("feature", "N C"),
    gradient=Array("feature", "N C"),
    limit=Scalar(float),
)


def _guard_limit(kernel: Any) -> None:
    @kernel.guard("always")
    def it_is_not_negative(limit):
        if not limit >= 0:
            raise ValueError(f"{kernel.name}: limit is {limit}, expected 0 or more")


_guard_limit(SOFT_SHRINK_FORWARD)
_guard_limit(SOFT_SHRINK_BACKWARD)
