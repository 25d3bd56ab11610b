"""A training step whose batch is cut into shards: the gradient of the whole batch, shard by shard.

    for each shard         forward -> its part of the losses that are sums over samples -> backward -> flat gradient
    over the shards        the sum along the tree of `ranks`, then the same array on every rank

The loss of a shard is weighted by its share of the batch's total weight, which is known before (`Term.mass`).  Parts of
the loss that compare samples are computed once, on every rank alike, from the descriptors of the whole batch; each
shard then continues the backward pass from its rows of their gradient:

    shard 0 -> descriptors \\                                  / rows 0, S, ...  -> backward of shard 0
    shard 1 -> descriptors  > whole batch -> loss -> gradient  > rows 1, S+1 ... -> backward of shard 1
    ...                    /                                  \\ ...

A process that has several shards runs them twice for that: first for their descriptors alone, without graphs, and then
one after the other with a graph, so that one graph exists at a time.  The second run draws and normalises as the first.

Each shard runs from the same running statistics (of batch norms, over its own sites or rows alone); by how much they
move is averaged over the shards, weighted by their samples, in the same sum as the gradients.  Statistics over the
whole batch would need a message in the middle of each layer, forward and backward: there are none.

Dropout draws for each sample by its place in the batch.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sparsenet.autograd import Function, Tensor, no_grad
from sparsenet.backend import array_module, to_device, wide_dtype
from sparsenet.data.batch import ShardedBatch, shard_rows
from sparsenet.training.precision import loss_scale, run_backward
from sparsenet.training.ranks import Ranks
from sparsenet.training.terms import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparsenet.nn import SparseNetwork
    from sparsenet.training.losses import Criterion
    from sparsenet.training.schema import Config


def _untimed(part: str) -> AbstractContextManager[None]:
    return nullcontext()


class _Forward(NamedTuple):
    """A shard after its forward pass.  moves : by how much it moved each buffer"""

    view: View
    moves: list[Any]


class _Figures(NamedTuple):
    """The message of a shard to the other ranks.

    losses : (parts,) its share of each part of the loss;  right : of the number of correct samples
    used : which parameters have a gradient
    """

    losses: list[float]
    right: float
    used: list[bool]


class GivenGradient(Function):
    """The number 0, whose gradient by x is given."""

    def __init__(self, gradient: Any):
        super().__init__()
        self.gradient = gradient

    def forward(self, x: Any) -> Any:
        return array_module(x).zeros((), x.dtype)

    def backward(self, gradient: Any) -> Any:
        return self.gradient * gradient


class ShardedStep:
    """Computes the gradients of a batch in shards: sets `.grad` of the parameters, and moves the running statistics,
    to the same bits on any number of ranks.

    net, criterion : their parameters get the gradients, those that are frozen none
    """

    def __init__(self, config: Config, net: SparseNetwork, criterion: Criterion, ranks: Ranks):
        self.net, self.criterion, self.ranks = net, criterion, ranks
        self.seed, self.scale = config.training.seed, loss_scale(config)
        self.parameters = [one for one in (*net.parameters(), *criterion.parameters()) if one.requires_grad]
        self.buffers = [one for one in net.buffers() if one.dtype.kind == "f"]
        self.parts = range(len(criterion.weights))
        self.whole = [part for part in self.parts if criterion.whole_batch[part]]
        tensors = [*self.parameters, *self.buffers]
        stops = np.cumsum([one.size for one in tensors]).tolist()
        self.places = [slice(stop - one.size, stop) for one, stop in zip(tensors, stops, strict=True)]
        self.length = stops[-1]
        self.dtype = np.result_type(*(wide_dtype(one.dtype) for one in tensors))

    def __call__(self, batch: ShardedBatch, epoch: int, step: int,
                 watch: Callable[[str], AbstractContextManager[None]] = _untimed) -> np.ndarray:
        """Returns the criterion's figures of the whole batch.  watch : times "forward" and "backward"."""
        count = min(self.ranks.shards, len(batch))
        before = [one.array for one in self.buffers]
        masses = self._masses(batch)
        kept: dict[int, _Forward] = {}
        own: dict[int, _Figures] = {}
        values: dict[int, float] = {}
        whole = rows_gradient = None
        if self.whole:
            with watch("forward"):
                if len(batch.shards) == 1:  # its graph waits for the gradient
                    kept = {shard: self._run(batch, shard, before, epoch, step) for shard in batch.shards}
                descriptors = {shard: run.view.descriptors.array for shard, run in kept.items()}
                with no_grad():
                    for shard in batch.shards.keys() - kept.keys():
                        descriptors[shard] = self._run(batch, shard, before, epoch, step).view.descriptors.array
                whole, rows_gradient, values = self._compared(batch, descriptors)

        def leaf(shard: int) -> Any:
            with watch("forward"):
                run = kept.pop(shard) if shard in kept else self._run(batch, shard, before, epoch, step)
            with watch("backward"), np.errstate(all="ignore"):
                flat, own[shard] = self._shard(batch, shard, run, masses, rows_gradient)
            return flat

        summed = self.ranks.tree_sum(leaf, count)
        with watch("backward"):
            if not self.ranks.first:
                summed = self._module().empty(self.length, self.dtype)
            elif whole is not None:
                summed += whole[0]
            self.ranks.broadcast(summed)
            figures = self.ranks.merged(own)
            used = np.any([one.used for one in figures.values()], axis=0)
            if whole is not None:
                used |= whole[1]
            self._assign(summed, used, before)
        return self._figures(list(figures.values()), values)

    def _masses(self, batch: ShardedBatch) -> np.ndarray:
        """(shards, parts, 2): the mass of each shard and part of the loss, and its number of rows."""
        own = {shard: [self.criterion.mass(part, one) for part in self.parts] for shard, one in batch.shards.items()}
        return np.array(list(self.ranks.merged(own).values()), np.float64)

    def _run(self, batch: ShardedBatch, shard: int, before: list[Any], epoch: int, step: int) -> _Forward:
        """The forward pass of a shard, from the buffers as they were before the step."""
        for buffer, array in zip(self.buffers, before, strict=True):
            buffer.array = array.copy()
        rows = shard_rows(shard, self.ranks.shards, len(batch))
        self.net.reseed(self.seed, epoch, step, rows=rows)
        view = self.criterion.view(self.net, batch.shards[shard])
        return _Forward(view, [buffer.array.astype(self.dtype) - array.astype(self.dtype)
                               for buffer, array in zip(self.buffers, before, strict=True)])

    def _compared(self, batch: ShardedBatch, descriptors: dict[int, Any]) -> tuple[Any, Any, dict[int, float]]:
        """The parts of the loss that need the whole batch: the gradient by the parameters beside the network and which
        have one, the gradient by the descriptors (B, C), and the value of each part."""
        arrays = self.ranks.merged({shard: to_device(array, "cpu") for shard, array in descriptors.items()})
        rows = np.empty((len(batch), *arrays[0].shape[1:]), arrays[0].dtype)
        for shard, array in arrays.items():
            rows[shard::self.ranks.shards] = array
        gathered = Tensor(to_device(rows, self._device()), requires_grad=True)
        view = self.criterion.gathered(gathered, batch.labels)
        found = {part: self.criterion.value(part, view)[0] for part in self.whole}
        loss = _sum([value * self.criterion.weights[part] for part, value in found.items()])
        with np.errstate(all="ignore"):
            run_backward(loss, self.scale)
        flat, used = self._flattened()
        values = {part: float(to_device(value.array, "cpu")) for part, value in found.items()}
        return (flat, np.array(used)), gathered.grad, values

    def _shard(self, batch: ShardedBatch, shard: int, run: _Forward, masses: np.ndarray, rows_gradient: Any
               ) -> tuple[Any, _Figures]:
        """The flat gradient of a shard, and its figures."""
        view, losses, right = run.view, [0.0 for _ in self.parts], 0.0
        totals, terms = masses.sum(axis=0), []
        for part in self.parts:
            if part in self.whole:
                continue
            value, figures = self.criterion.value(part, view)
            share = masses[shard, part, 0] / totals[part, 0] if totals[part, 0] else 0.0
            terms.append(value * (self.criterion.weights[part] * share * self.scale))
            numbers = to_device(figures, "cpu").astype(np.float64).tolist()
            losses[part] = numbers[0] * share
            if len(numbers) > 1 and masses[shard, part, 1]:  # as a share of the rows, in samples of the whole batch
                right = (numbers[1] / len(batch.shards[shard]) * masses[shard, part, 1]
                         * (len(batch) / totals[part, 1]))
        if rows_gradient is not None:
            own = array_module(rows_gradient).ascontiguousarray(rows_gradient[shard::self.ranks.shards])
            terms.append(GivenGradient(own).apply(view.descriptors))
        loss = _sum(terms)
        if loss.requires_grad:
            loss.backward()
        flat, used = self._flattened()
        share = len(batch.shards[shard]) / len(batch)
        for place, moved in zip(self.places[len(self.parameters):], run.moves, strict=True):
            flat[place] = moved.reshape(-1) * share
        return flat, _Figures(losses, right, used)

    def _flattened(self) -> tuple[Any, list[bool]]:
        """The gradients of the parameters as one array, with zeros for the buffers, and which of them have one; the
        parameters have none afterwards."""
        flat, used = self._module().zeros(self.length, self.dtype), []
        for parameter, place in zip(self.parameters, self.places, strict=False):
            used.append(parameter.grad is not None)
            if parameter.grad is not None:
                flat[place] = parameter.grad.reshape(-1)
                parameter.grad = None
        return flat, used

    def _assign(self, flat: Any, used: np.ndarray, before: list[Any]) -> None:
        """Hand the parts of the flat array to the parameters and buffers."""
        for number, (parameter, place) in enumerate(zip(self.parameters, self.places, strict=False)):
            if used[number]:
                parameter.grad = flat[place].reshape(parameter.shape).astype(parameter.dtype)
        for buffer, array, place in zip(self.buffers, before, self.places[len(self.parameters):], strict=True):
            moved = array.astype(self.dtype) + flat[place].reshape(array.shape)
            buffer.array = moved.astype(array.dtype)

    def _figures(self, shards: list[_Figures], whole: dict[int, float]) -> np.ndarray:
        """The figures that the criterion names, of the whole batch."""
        losses = np.sum([one.losses for one in shards], axis=0)
        for part, value in whole.items():
            losses[part] = value
        loss = sum(weight * float(value) for weight, value in zip(self.criterion.weights, losses, strict=True))
        parts = losses.tolist() if len(self.parts) > 1 else []
        right = [sum(one.right for one in shards)] if self.criterion.classifies else []
        return np.array([loss, *parts, *right])

    def _device(self) -> str:
        return self.parameters[0].device

    def _module(self) -> Any:
        return array_module(self.parameters[0].array)


def _sum(terms: list[Tensor]) -> Tensor:
    total, *others = terms
    for other in others:
        total = total + other
    return total
