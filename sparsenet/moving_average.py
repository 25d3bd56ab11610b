"""EMA: an exponential moving average of a network's weights."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sparsenet.backend import array_module, to_device, wide_dtype

if TYPE_CHECKING:
    from sparsenet.autograd import Tensor
    from sparsenet.nn import Module


class EMA:
    """An exponential moving average of a network's parameters and buffers, updated after each optimizer step:

        average = d * average + (1 - d) * value         d = min(decay, n / (n + 1)), n: updates so far

    The first updates thus give the plain mean, until that reaches as far back as the decay does; the initial
    weights do not count.  Averaging the weights along a run often generalises better than its last weights
    (Polyak & Juditsky 1992; the decay as in Tarvainen & Valpola 2017, "Mean teachers").

    net : Module whose Tensors are averaged, in float32 or wider; running statistics are averaged, too, and buffers
        of integers copied
    decay : 0 (the current weights) up to, but not including, 1; it averages over about 1 / (1 - decay) steps

    updates : number of updates so far

    Raises
    ------
    ValueError : decay is out of range, or the network has no parameters.
    TypeError : decay is not a number.

    Example
    -------
    >>> from sparsenet.nn import Linear
    >>> net = Linear(1, 1)
    >>> average = EMA(net, decay=0.9)
    >>> for value in (1.0, 2.0, 6.0):
    ...     net.weight.array[:] = value     # a step of an optimizer
    ...     average.update()
    >>> with average.applied():
    ...     print(net.weight.item())
    3.0
    >>> net.weight.item()
    6.0
    """

    def __init__(self, net: Module, decay: float = 0.999):
        if not isinstance(decay, numbers.Real):
            raise TypeError(f"EMA: decay is {decay!r}, expected a number")
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: decay is {decay}, expected at least 0 and less than 1")
        self._tensors: dict[str, Tensor] = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        if not self._tensors:
            raise ValueError("EMA: the network has no parameters")
        self.decay: float = float(decay)
        self.updates: int = 0
        self._averages: dict[str, Any] = {}

    def update(self) -> None:
        """Take the current values into the average; call it after each step of the optimizer."""
        share = 1 - min(self.decay, self.updates / (self.updates + 1))
        for name, tensor in self._tensors.items():
            value = tensor.array
            if self.updates == 0 or value.dtype.kind != "f":
                self._averages[name] = value.astype(_dtype(tensor), copy=True)
            else:
                average = to_device(self._averages[name], tensor.device)
                average += share * (value.astype(average.dtype, copy=False) - average)
                self._averages[name] = average
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the network has the averaged values; before the first update, its own."""
        before = {name: self._tensors[name].array for name in self._averages}
        try:
            for name, average in self._averages.items():
                tensor = self._tensors[name]
                tensor.array = to_device(average, tensor.device).astype(tensor.dtype, copy=True)
            yield
        finally:
            for name, array in before.items():
                self._tensors[name].array = array

    def state_dict(self) -> dict[str, Any]:
        """The entries "updates" and "averages": copies of the averages by name, none before the first update."""
        return {"updates": self.updates, "averages": {name: array.copy() for name, array in self._averages.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises ValueError, without changing anything, if a name or shape does not match the network, or a number is not
        finite.
        """
        updates, averages = int(state["updates"]), state["averages"]
        expected = set(self._tensors) if updates else set()
        if updates < 0 or set(averages) != expected:
            odd = sorted(set(averages) ^ expected)
            raise ValueError(f"EMA.load_state_dict: {updates} updates, and {', '.join(odd) or 'no name'} is missing or "
                             "unexpected: load the state of an average of the same network")
        for name, array in averages.items():
            if array.shape != self._tensors[name].shape:
                raise ValueError(f"EMA.load_state_dict: average of {name} has shape {array.shape}, expected "
                                 f"{self._tensors[name].shape}")
            if not bool(array_module(array).isfinite(array).all()):
                raise ValueError(f"EMA.load_state_dict: average of {name} contains NaN or infinity, expected finite "
                                 "numbers")
        self.updates = updates
        self._averages = {name: to_device(array, self._tensors[name].device).astype(_dtype(self._tensors[name]))
                          for name, array in averages.items()}


def _dtype(tensor: Tensor) -> Any:
    return wide_dtype(tensor.dtype) if tensor.dtype.kind == "f" else tensor.dtype
