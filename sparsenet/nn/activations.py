"""What each layer of a network read and gave: records to look at, and the table made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sparsenet.autograd import Tensor
from sparsenet.nn.module import Module
from sparsenet.sparse import ActiveSites, Rulebook, SparseTensor


@dataclass(frozen=True)
class Activation:
    """One layer's input and output.

    index : the layer's number, counted from 1 as in the paper's Table 1
    name : its name in the network, such as "convolution1"
    layer : the Module
    input, output : what it read and gave.  An edited output goes on with `net.run(output, start=index)`

    Where the output is a plain Tensor, `features` is that Tensor, and what only sites have is None.
    """

    index: int
    name: str
    layer: Module
    input: SparseTensor | Tensor
    output: SparseTensor | Tensor

    @property
    def features(self) -> Tensor:
        """(N, C), one row per site."""
        return self.output.features if self._sparse else self.output

    @property
    def background(self) -> Tensor | None:
        """(C,): what every inactive cell holds."""
        return self.output.background if self._sparse else None

    @property
    def sites(self) -> ActiveSites | None:
        return self.output.sites if self._sparse else None

    @property
    def spatial_size(self) -> tuple[int, ...] | None:
        return self.output.spatial_size if self._sparse else None

    @property
    def active_fraction(self) -> float | None:
        """Sites per cell of the batch, 0 to 1."""
        return self.output.active_fraction if self._sparse else None

    @property
    def rulebook(self) -> Rulebook | None:
        """What joined the input's sites to the output's; None where the layer has no filter."""
        geometry = getattr(self.layer, "geometry", None)
        return None if geometry is None or not self._sparse else self.input.sites.rulebook(geometry)

    @property
    def multiply_adds(self) -> int:
        """Of the matrix products of the forward pass, for the whole batch, over pairs of sites."""
        weight = getattr(self.layer, "weight", None)
        if weight is None:
            return 0
        rows = self.input.shape[0] if self.rulebook is None else self.rulebook.pair_count
        return rows * weight.shape[-2] * weight.shape[-1]

    @property
    def _sparse(self) -> bool:
        return isinstance(self.output, SparseTensor)


def table(given: SparseTensor, records: Sequence[Activation]) -> str:
    """The input and each record as one line of an aligned table, and a line of totals."""
    rows = [("", "layer", "settings", "spatial size", "channels", "sites", "active %", "pairs", "multiply-adds",
             "weights")]
    rows.append(("0", "input", "", *_size_cells(given), "", "", ""))
    for record in records:
        pairs = "" if record.rulebook is None else f"{record.rulebook.pair_count:,}"
        rows.append((str(record.index), record.name, record.layer.extra_repr(), *_size_cells(record.output), pairs,
                     _number(record.multiply_adds), _number(record.layer.parameter_count())))
    # a shared parameter counts once
    weights = {id(p): p.size for record in records for p in record.layer.parameters()}
    rows.append(("", "total", f"batch of {given.batch_size}", "", "", "", "", "",
                 _number(sum(record.multiply_adds for record in records)), _number(sum(weights.values()))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = {1, 2}
    lines = ["  ".join(cell.ljust(width) if i in left else cell.rjust(width)
                       for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _size_cells(output: Any) -> tuple[str, ...]:
    """The cells: spatial size, channels, sites, active %."""
    if not isinstance(output, SparseTensor):
        return "", str(output.shape[1]), "", ""
    return ("x".join(map(str, output.spatial_size)), str(output.channels), f"{len(output.sites):,}",
            f"{100 * output.active_fraction:.2f}")


def _number(value: int) -> str:
    return f"{value:,}" if value else ""
