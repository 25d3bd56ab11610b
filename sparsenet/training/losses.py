"""The loss of a training: a weighted sum of terms, and what it learns beside the network.

    network        ... -> descriptor -> [dropout] -> [classifier]
    terms             descriptors, their projection, or the classifier's input: see `terms`
    loss           sum of weight * term, and pose_weight * cross entropy of the pose

What the loss learns (centres, proxies, the projection, the classifier of poses) is not part of the network: it is
saved with it in a checkpoint, under its own names, and training alone uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet import ops
from sparsenet.autograd import Parameter, Tensor
from sparsenet.backend import HALF, array_module
from sparsenet.nn import Linear, Module, init
from sparsenet.nn.residual import channels_behind
from sparsenet.random import keyed_rng
from sparsenet.training.config import ConfigError
from sparsenet.training.schema import Config
from sparsenet.training.terms import Learning, Softmax, View, classifier_of, kind_of, terms_of

if TYPE_CHECKING:
    from sparsenet.data import SparseBatch, SparseDataset
    from sparsenet.nn import SparseNetwork

PREFIX = "loss."  # of the names of its parameters beside the network's, in an optimizer


def classifies(config: Config) -> bool:
    """Whether the network that the config trains is a classifier."""
    return classifier_of(config.loss) is not None


def segments(config: Config) -> bool:
    """Whether the network that the config trains labels sites."""
    return any(one.per_site for one in terms_of(config.loss))


def class_names(config: Config, dataset: SparseDataset) -> list[str]:
    """The names of the classes that the network tells apart: the parts, if it labels sites."""
    return dataset.part_classes if segments(config) else dataset.classes


def site_counts(dataset: SparseDataset) -> np.ndarray:
    """(part classes,) int64, the number of sites of each part."""
    counts = np.zeros(len(dataset.part_classes) + 1, np.int64)  # the last one for -1
    for sample in range(len(dataset)):
        counts += np.bincount(dataset.site_labels(sample) % len(counts), minlength=len(counts))
    return counts[:-1]


def layer_metric(config: Config) -> str:
    """The distance by which descriptors are ranked if evaluation.metric is auto: l2 if each term says so."""
    return "l2" if all(one.metric == "l2" for one in terms_of(config.loss)) else "cosine"


def descriptor_place(net: SparseNetwork, config: Config) -> int:
    """The number of layers whose result is the descriptor: all but the classifier and the dropout before it."""
    place = len(net.layers) - classifies(config)
    while classifies(config) and place and net.layers[place - 1].kind == "dropout":
        place -= 1
    return place


def class_weights_of(config: Config, training_set: SparseDataset) -> np.ndarray | None:
    """(classes,) float64: objects / (classes * objects of the class), of sites for a segmentation, or None if all count
    1."""
    if not any(isinstance(one, Softmax) and one.class_weights == "balanced" for one in terms_of(config.loss)):
        return None
    counts = site_counts(training_set) if segments(config) else np.bincount(training_set.object_labels,
                                                                            minlength=len(training_set.classes))
    return counts.sum() / (len(counts) * np.maximum(counts, 1.0))


class Criterion(Module):
    """The loss of a config for a network and a training set, and the parameters that it learns.

    weights : the weight of each part of the sum: the terms, then the cross entropy of the pose
    whole_batch : which of these parts need the descriptors of the whole batch (`terms.Term`)
    figures : names of the figures of a batch: "loss", "loss_KIND" of each term if there are several, and "right", the
        number of samples that a classifier gets right (of a segmentation, the share of sites in samples)

    Raises ConfigError if loss.pose_weight is set and the training set has one pose.
    """

    def __init__(self, config: Config, net: SparseNetwork, training_set: SparseDataset):
        self.terms = terms_of(config.loss)
        self.place = descriptor_place(net, config)
        self.classifies = classifies(config)
        self.class_weights = class_weights_of(config, training_set)
        self.pose_weight = config.loss.pose_weight
        self.term_names = _numbered([kind_of(one) for one in self.terms])
        channels = channels_behind(net.layers[:self.place], net.in_channels)
        for name, one in zip(self.term_names, self.terms, strict=True):
            if isinstance(one, Learning):
                shape = (len(training_set.classes), channels)
                rng = keyed_rng(config.training.seed, "loss", name)
                setattr(self, name, _Vectors(one.learned, init.uniform(shape, init.weight_bound(*shape), rng)))
        self.projection: Linear | None = None
        self.pose: Linear | None = None
        if config.network.projection:
            self.projection = Linear(channels, config.network.projection,
                                     rng=keyed_rng(config.training.seed, "loss", "projection"))
        if self.pose_weight:
            poses, self.pose_labels = _pose_labels(training_set)
            self.pose = Linear(channels, poses, rng=keyed_rng(config.training.seed, "loss", "pose"))
        self.weights = [one.weight for one in self.terms] + [self.pose_weight] * bool(self.pose_weight)
        self.whole_batch = [one.whole_batch for one in self.terms] + [False] * bool(self.pose_weight)
        several = len(self.weights) > 1
        self.sums = several or self.terms[0].weight != 1
        parts = [f"loss_{name}" for name in self.term_names] + ["loss_pose"] * bool(self.pose_weight)
        self.figures = ("loss", *(parts if several else ()), *(("right",) if self.classifies else ()))

    def loss(self, net: SparseNetwork, batch: SparseBatch) -> tuple[Tensor, Any]:
        """The loss of a batch, and an array of its `figures`, on the network's device."""
        view = self.view(net, batch)
        values = [self.value(part, view) for part in range(len(self.weights))]
        return self._summed(values) if self.sums else values[0]

    def view(self, net: SparseNetwork, batch: SparseBatch) -> View:
        """Run the network; the result holds what the parts of the loss are computed from."""
        found = net.run(batch, 0, self.place)
        last = len(net.layers) - 1
        descriptors = ops.cast(found, np.float32) if found.dtype == HALF else found  # as the loss, and what it learns
        return View(descriptors, self._projected(descriptors),
                    net.run(found, self.place, last) if self.classifies else None,
                    net.layers[last] if self.classifies else None, batch.labels, self.class_weights, batch)

    def gathered(self, descriptors: Tensor, labels: np.ndarray) -> View:
        """The input of the parts that need the whole batch: its descriptors (B, C) and labels (B,)."""
        return View(descriptors, self._projected(descriptors), None, None, labels, self.class_weights)

    def _projected(self, descriptors: Tensor) -> Tensor:
        return descriptors if self.projection is None else self.projection(descriptors)

    def value(self, part: int, view: View) -> tuple[Tensor, Any]:
        """The loss of a part, unweighted, and an array of it and, for a classifier, the number of correct samples."""
        if part < len(self.terms):
            return self.terms[part].value(view, self._vectors(self.term_names[part]))
        assert self.pose is not None and view.batch is not None
        loss = ops.softmax_cross_entropy(self.pose(view.descriptors), self.pose_labels[view.batch.sample_ids])
        return loss, loss.array.reshape(1)

    def mass(self, part: int, batch: SparseBatch) -> tuple[float, int]:
        """See `terms.Term.mass`."""
        if part < len(self.terms):
            return self.terms[part].mass(batch, self.class_weights)
        return float(len(batch)), len(batch)

    def _summed(self, values: list[tuple[Tensor, Any]]) -> tuple[Tensor, Any]:
        """The sum of weight * value, in the order of the terms, and its figures."""
        loss, *others = [value * weight for (value, _), weight in zip(values, self.weights, strict=True)]
        for other in others:
            loss = loss + other
        parts = [value.array for value, _ in values] if len(values) > 1 else []
        right = [figures[1] for _, figures in values if len(figures) > 1]
        xp = array_module(loss.array)
        return loss, xp.stack([one.astype(np.float64) for one in (loss.array, *parts, *right)])

    def _vectors(self, name: str) -> Parameter | None:
        holder = getattr(self, name, None)
        return getattr(holder, holder.learned) if isinstance(holder, _Vectors) else None

    def groups(self, lr: float) -> Iterator[dict[str, Any]]:
        """The groups for ParameterGroups of the vectors that terms learn, each with its learning rate; they do not
        decay.  The other parameters are `heads`."""
        for name, one in zip(self.term_names, self.terms, strict=True):
            if isinstance(one, Learning):
                yield {"params": [(f"{PREFIX}{name}.{one.learned}", self._vectors(name))], "lr": lr * one.lr_factor,
                       "weight_decay": 0.0}

    def heads(self) -> list[tuple[str, Parameter]]:
        """(name, Parameter) pairs of the projection and the classifier of poses."""
        heads = {"projection": self.projection, "pose": self.pose}
        return [(f"{PREFIX}{part}.{name}", parameter) for part, head in heads.items() if head is not None
                for name, parameter in head.named_parameters()]


class _Vectors(Module):
    """The vectors that a term learns, under their name."""

    def __init__(self, learned: str, vectors: Parameter):
        self.learned = learned
        setattr(self, learned, vectors)


def _numbered(kinds: list[str]) -> tuple[str, ...]:
    """The kinds, the second of a kind as KIND2."""
    return tuple(f"{kind}{number}" if (number := kinds[:place].count(kind) + 1) > 1 else kind
                 for place, kind in enumerate(kinds))


def _pose_labels(training_set: SparseDataset) -> tuple[int, np.ndarray]:
    """The number of different poses, and for each sample the number of its pose among them, (S,) int64."""
    poses, labels = np.unique(training_set.pose, return_inverse=True)
    if len(poses) < 2:
        raise ConfigError(f"config: loss.pose_weight is set, and all samples of {training_set.path} are stored in one "
                          "pose, so there is none to predict: leave it out")
    return len(poses), labels.astype(np.int64)
