"""Chain: a list of layers that runs from and to any of them, and shows what each reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from operator import index
from typing import Any

from sparsenet.autograd import no_grad
from sparsenet.layer_stack import entered
from sparsenet.nn.activations import Activation, recorded, table
from sparsenet.nn.fusion import run_layers
from sparsenet.nn.module import Module
from sparsenet.nn.sequential import numbered_kinds
from sparsenet.sparse import SparseTensor


class Chain(Module):
    """Layers one after another; `SparseNetwork` builds one.

    layers : list of Modules, may be changed
    dimension, in_channels : D and C of the input
    field : (D,), sides of the input grid, checked at each call; None: any
    recompute : number of parts in which the layers run while a graph is recorded; all but the last run again in the
        backward pass, instead of keeping their activations: same bits, less memory, more time; 0: they are kept

    A layer's name is its kind, numbered: "convolution1", "leaky_relu1", "max_pool1", "convolution2", ...; its
    parameters are "convolution1.weight", "convolution1.bias".
    """

    layers: list[Module]
    dimension: int
    in_channels: int
    field: tuple[int, ...] | None
    recompute: int = 0

    def forward(self, batch: Any) -> Any:
        return self.run(batch)

    def run(self, x: Any, start: int = 0, stop: int | None = None) -> Any:
        """Run layers start+1 to stop (counted from 1): `run(x, 0, 17)` returns layer 17's output, and
        `run(y, 17)` continues from it, edited or not.

        x : SparseBatch, SparseTensor or Tensor

        Returns a SparseTensor, or a Tensor after a GlobalPool or ToDense.

        Raises
        ------
        ValueError : there are no such layers; at the first layer, the input has other dimensions, channels or sides.
        """
        start, stop = self._checked_range(start, stop)
        x = self._checked_input(x) if start == 0 else x
        with entered(self):
            layers = self.layers[start:stop]
            if not self.recompute:
                return run_layers(layers, x)
            from sparsenet.nn.checkpoint import run_parts

            return run_parts(layers, x, self.recompute)

    def activations(self, batch: Any) -> list[Activation]:
        """Run the network and return a record for each layer, in order: its input and output, as arrays and as part of
        the graph.

        After a backward pass from the last output the records hold gradients, too (not under `no_grad`, which keeps no
        graph).  Dropout and norms follow the current mode: call `.eval()` first to see the network as it predicts.
        """
        x, records = self._checked_input(batch), []
        with entered(self):
            for number, (name, layer) in enumerate(zip(self.names(), self.layers, strict=True), start=1):
                records.append(recorded(number, name, layer, x))
                x = records[-1].output
        return records

    def summary(self, batch: Any) -> str:
        """A text table: spatial size, channels, sites, active cells, pairs, multiply-adds and weights of each layer."""
        with no_grad(), self.evaluating():
            return table(self._checked_input(batch), self.activations(batch))

    def names(self) -> list[str]:
        """The layers' names, in order."""
        return numbered_kinds(self.layers)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        yield from zip(self.names(), self.layers, strict=True)
        yield from ((n, m) for n, m in super().named_children() if not n.startswith("layers."))

    def _checked_range(self, start: int, stop: int | None) -> tuple[int, int]:
        start, stop = index(start), len(self.layers) if stop is None else index(stop)
        if not 0 <= start <= stop <= len(self.layers):
            raise ValueError(f"{type(self).__name__}: asked for layers {start} to {stop}, there are "
                             f"{len(self.layers)}: {', '.join(self.names())}")
        return start, stop

    def _checked_input(self, batch: Any) -> SparseTensor:
        x = getattr(batch, "input", batch)
        name = type(self).__name__
        if not isinstance(x, SparseTensor):
            raise TypeError(f"{name}: the input is {type(x).__name__}, expected a SparseBatch or SparseTensor")
        if x.dimension != self.dimension or x.channels != self.in_channels:
            raise ValueError(f"{name}: the input has {x.dimension} dimensions and {x.channels} channels, expected "
                             f"{self.dimension} and {self.in_channels}")
        if self.field is not None and x.spatial_size != self.field:
            raise ValueError(f"{name}: the input's spatial size is {x.spatial_size}, expected {self.field}: centre the "
                             f"shapes in such a grid, dataset.batches(..., field={self.field})")
        if x is batch:
            return x
        dtype = next((tensor.dtype for tensor in self.parameters()), x.dtype)
        return x.astype(dtype)  # a loader's features are always float32
