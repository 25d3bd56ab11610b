"""The memory that a training step keeps after its forward pass: activations, weights, gradients, rulebooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sparsenet.autograd import Tensor, reverse_order
from sparsenet.backend import array_class
from sparsenet.sparse import ActiveSites
from sparsenet.sparse.kept import kept_arrays


@dataclass(frozen=True)
class Kept:
    """Bytes that a step keeps until its backward pass has used them, on the device of the network.  Memory that several
    arrays share counts once.

    activations : what the functions of the graph saved for the backward pass, other than parameters and rulebooks
    weights, gradients : of the parameters, and of those that require a gradient
    rulebooks : all views that exist, and their sites
    """

    activations: int
    weights: int
    gradients: int
    rulebooks: int

    def __str__(self) -> str:
        """As a sum in MB, 1e6 bytes.

        >>> str(Kept(65_268_096, 28_718_928, 28_718_928, 7_257_320))
        'activations 65.3 + weights 28.7 + gradients 28.7 + rulebooks 7.3 = 130.0 MB'
        """
        decimals = max(0, 4 - len(str(self.total // 1_000_000))) if self.total >= 1_000_000 else 6
        parts = [f"{name} {size / 1e6:.{decimals}f}" for name, size in vars(self).items()]
        return f"{' + '.join(parts)} = {self.total / 1e6:.{decimals}f} MB"

    @property
    def total(self) -> int:
        return self.activations + self.weights + self.gradients + self.rulebooks


def kept(outputs: Iterable[Tensor], calls: Sequence[range], parameters: Iterable[Tensor], sites: Iterable[ActiveSites]
         ) -> tuple[Kept, list[int]]:
    """The memory that the graph of the outputs keeps, and the bytes of activations first saved within each call.

    calls : the numbers of the functions applied within each, those of a call before those of the call around it
    sites : those that the layers read and wrote
    """
    weights = list({id(one): one for one in parameters}.values())
    memory = {id(one): one for one in map(_owner, kept_arrays(*sites))}
    rulebooks = sum(one.nbytes for one in memory.values())
    memory |= {id(one): one for one in (_owner(weight.array) for weight in weights)}
    total, by_call = 0, [0] * len(calls)
    for function in reversed(reverse_order(*outputs)):
        new = {id(one): one for one in map(_owner, _arrays(function.saved)) if id(one) not in memory}
        memory |= new
        size = sum(one.nbytes for one in new.values())
        total += size
        call = next((place for place, numbers in enumerate(calls) if function._number in numbers), None)
        if call is not None:
            by_call[call] += size
    gradients = sum(one.array.nbytes for one in weights if one.requires_grad)
    return Kept(total, sum(one.array.nbytes for one in weights), gradients, rulebooks), by_call


def _arrays(saved: Any) -> Iterator[Any]:
    """The arrays among what a function saved, those of Tensors and within lists too."""
    if isinstance(saved, tuple | list):
        for one in saved:
            yield from _arrays(one)
    elif array_class(saved)[1] is not None:
        yield saved
    elif isinstance(saved, Tensor):
        yield saved.array


def _owner(array: Any) -> Any:
    """The array that owns the memory of this one, which may be a view."""
    while array_class(getattr(array, "base", None))[1] is not None:
        array = array.base
    return array
