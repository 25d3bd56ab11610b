"""The same numbers on any device and in any process: each is a function of its position.

    operand("features", rows, columns, width)     rows x columns of the operand whose rows have `width` numbers

So an operand of a hundred million numbers is made where it is used, and a check makes only the rows it needs.
The numbers are uniform in (-sqrt(3), sqrt(3)), with mean 0 and variance 1, except for "weight", which is divided by
sqrt(8 C_in), so that a sum over about eight neighbours keeps the variance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SEEDS = {"features": 0x243F6A88, "weight": 0x85A308D3, "gradient": 0x13198A2E}
_FACTORS = (0x85EBCA6B, 0xC2B2AE35)  # of MurmurHash3's finalizer


def operand(name: str, rows: Any, columns: Any, width: int, depth: int = 0) -> Any:
    """(rows, columns) float32 of an operand, on the device of the row and column numbers.

    rows, columns : (N,), (C,) integers
    depth : of a weight, C_in
    """
    place = (rows[:, None].astype(np.int64) * width + columns[None, :]).astype(np.uint32)
    bits = place ^ np.uint32(SEEDS[name])
    for factor in _FACTORS:
        bits ^= bits >> np.uint32(16)
        bits *= np.uint32(factor)
    bits ^= bits >> np.uint32(16)
    values = (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    values *= np.float32(np.sqrt(3) / (np.sqrt(8 * depth) if name == "weight" else 1))
    return values


def whole(name: str, count: int, width: int, xp: Any = np, depth: int = 0) -> Any:
    """The whole operand, (count, width)."""
    return operand(name, xp.arange(count), xp.arange(width), width, depth)
