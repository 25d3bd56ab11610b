"""Modules of dense operations for which PyTorch has none.  Imports torch, like `torch_module`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class GlobalPool(nn.Module):
    """The mean, maximum or sum over all cells: (B, C, *spatial) to (B, C)."""

    def __init__(self, mode: str):
        super().__init__()
        self.mode = mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cells = x.flatten(2)
        return cells.amax(2) if self.mode == "max" else cells.sum(2) if self.mode == "sum" else cells.mean(2)

    def extra_repr(self) -> str:
        return self.mode


class SumPool(nn.Module):
    """The sum over the K cells of each window.

    mean : the average pooling with these windows
    """

    def __init__(self, mean: nn.Module, cells: int):
        super().__init__()
        self.mean, self.cells = mean, cells

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mean(x) * self.cells


class Upsample(nn.Module):
    """Nearest upsampling in whole numbers, cut to a spatial size (D,): `nn.Upsample` divides in float32."""

    def __init__(self, scale: Sequence[int], spatial_size: Sequence[int]):
        super().__init__()
        self.scale, self.spatial_size = tuple(scale), tuple(spatial_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis, (times, side) in enumerate(zip(self.scale, self.spatial_size, strict=True), start=2):
            x = x.repeat_interleave(times, axis).narrow(axis, 0, side)
        return x

    def extra_repr(self) -> str:
        return f"x {self.scale} to {self.spatial_size}"


class LinearOnCells(nn.Linear):
    """A linear map of the channels of each cell: (B, C_in, *spatial) to (B, C_out, *spatial)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class LayerNormOnCells(nn.LayerNorm):
    """Layer norm of the channels of each cell: (B, C, *spatial) to the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class CosineLinear(nn.Linear):
    """scale * the cosine of a row and each row of the weight; 0 for a zero row."""

    def __init__(self, in_features: int, out_features: int, scale: float, device: Any = None, dtype: Any = None):
        super().__init__(in_features, out_features, bias=False, device=device, dtype=dtype)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * nn.functional.linear(_units(x), _units(self.weight))


def _units(rows: torch.Tensor) -> torch.Tensor:
    """Rows divided by their norms, and first by their largest number, so that no square overflows."""
    scaled = rows / rows.detach().abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return nn.functional.normalize(scaled, dim=1)


class PadWithBackground(nn.Module):
    """Cells around the grid that hold a row (C,), the background there when the network was exported.

    before, after : (D,), number of cells on the two sides of each axis
    """

    def __init__(self, row: torch.Tensor, before: Sequence[int], after: Sequence[int]):
        super().__init__()
        self.register_buffer("row", row)
        axes = zip(reversed(before), reversed(after), strict=True)  # the last first, as `pad` wants them
        self.widths = [width for sides in axes for width in sides]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outside = nn.functional.pad(x.new_zeros(1, 1, *x.shape[2:]), self.widths, value=1)
        column = self.row.reshape(-1, *[1] * (x.ndim - 2))
        return nn.functional.pad(x, self.widths) + outside * column


class Add(nn.Module):
    """x + y"""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class Concatenate(nn.Module):
    """The channels of all inputs, side by side."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat(inputs, 1)
