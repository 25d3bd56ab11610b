"""training.precision: how numbers are stored and multiplied, and the scale of the loss that float16 needs.

    precision   parameters, features, gradients   operands of products   sums    loss_scale if 0
    highest     float32                           float32                wide    1
    tf32        float32                           TF32                   wide    1
    bf16        float32                           BF16                   wide    1
    fp16        float32                           FP16                   wide    1024
    float16     float16, steps in float32         FP16                   wide    1024

All but "highest" are for a GPU.  With float16 the optimizer keeps a float32 master of each parameter, a checkpoint has
the masters with its momentum, and the loss is computed in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsenet.training.config import ConfigError
from sparsenet.training.schema import Config

if TYPE_CHECKING:
    from sparsenet.autograd import Tensor

LOSS_SCALE = 1024.0  # of float16 and fp16: a power of two, which changes no digit


def check_precision(config: Config) -> None:
    """Raise ConfigError if the device does not compute in the precision."""
    precision, device = config.training.precision, config.training.device
    if device == "cpu" and precision != "highest":
        what = ("stores no float16" if precision == "float16" else
                f"multiplies float32 as it is, and rounds nothing to {precision.upper()}")
        raise ConfigError(f"config: training.precision is {precision}, and training.device is cpu, which {what}: set "
                          "training.precision to highest, or training.device to cuda")


def storage_dtype(config: Config) -> str:
    """The dtype of the network's parameters."""
    return "float16" if config.training.precision == "float16" else "float32"


def product_precision(config: Config) -> str:
    """The argument of `set_float32_matmul_precision`."""
    return "highest" if config.training.precision == "float16" else config.training.precision


def loss_scale(config: Config) -> float:
    """The factor of the loss before the backward pass."""
    automatic = LOSS_SCALE if config.training.precision in ("float16", "fp16") else 1.0
    return config.training.loss_scale or automatic


def run_backward(loss: Tensor, scale: float) -> None:
    """`backward` from scale * loss."""
    (loss if scale == 1 else loss * scale).backward()
