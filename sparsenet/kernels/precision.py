"""The precision of float32 products on a GPU: a setting of the process, like PyTorch's.

    sn.set_float32_matmul_precision("tf32")

    setting                  operands of a product            products are summed in
    "highest" (default)      float32                          float32
    "tf32", alias "high"     TF32: float32's range, 10 bits   float32
    "fp16"                   FP16: up to 65504, 10 bits       float32
    "bf16", alias "medium"   BF16: float32's range, 7 bits    float32

All but "highest" use tensor cores (compute capability 8.0 and up, for "fp16" 7.5), in the convolutions and
their gradients.  Features, weights and gradients stay float32 in memory.  float64 is never rounded, and a
CPU ignores the setting.  FP16 loses gradients below 6e-8: scale the loss, or take "bf16".

The setting is for float32.  Features stored as float16 (`net.to("cuda", "float16")`) are multiplied as they are,
without rounding, and summed in float32, whatever the setting.
"""

from __future__ import annotations

from typing import Any

import numpy as np

PRECISIONS = ("highest", "tf32", "fp16", "bf16")
_ALIASES = {"high": "tf32", "medium": "bf16"}  # PyTorch's names
_NAMES = {np.dtype(name): name for name in ("float16", "float32", "float64")}  # to make the name of a dtype is slow
_current = "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """Set the precision of the operands of float32 products on a GPU, from the next launch on.

    Raises
    ------
    ValueError : if `precision` is not one of the settings above.
    """
    global _current
    name = _ALIASES.get(precision, precision)
    if name not in PRECISIONS:
        raise ValueError(f"set_float32_matmul_precision: precision is {precision!r}, expected one of "
                         f"{', '.join(PRECISIONS)} (or high for tf32, medium for bf16)")
    _current = name


def get_float32_matmul_precision() -> str:
    """One of "highest", "tf32", "fp16", "bf16"."""
    return _current


def operand_precision(dtype: Any) -> str:
    """The precision of the operands of products of arrays of this dtype: "float64", "fp16" for float16, and for float32
    "float32" or the setting."""
    name = _NAMES.get(dtype) or np.dtype(dtype).name
    if name == "float16":
        return "fp16"
    return _current if name == "float32" and _current != "highest" else name
