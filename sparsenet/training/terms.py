"""The terms that a loss is made of: for each kind its settings in a config, and how it is computed.

Adding a kind takes a class here: a dataclass of keys, registered with `@term`, and its `value`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from sparsenet import ops
from sparsenet.backend import array_module, to_device
from sparsenet.ops.cosine_softmax import KINDS as VARIANTS
from sparsenet.ops.triplet_loss import DISTANCES
from sparsenet.toml import as_toml
from sparsenet.training.mining import batch_hard, semi_hard
from sparsenet.training.schema import LossConfig, key

if TYPE_CHECKING:
    from sparsenet.autograd import Parameter, Tensor
    from sparsenet.data import SparseBatch
    from sparsenet.nn import Module, SparseNetwork

CLASS_WEIGHTS = ("none", "balanced")
UNKNOWN = -1  # the label of a site whose part is unknown


class View(NamedTuple):
    """The arguments of a term, for one batch.

    descriptors : (B, C), what `embed` returns
    projected : (B, P), their projection by network.projection; the descriptors themselves without one
    inputs : (B, C), the classifier's input: the descriptors after dropout; None without a classifier
    classifier : the network's last layer; None if it does not classify
    labels : (B,) int64, on the host
    class_weights : (classes,) of loss.class_weights = "balanced"; None: all count 1
    batch : the batch itself, for a term that is per site
    """

    descriptors: Tensor
    projected: Tensor
    inputs: Tensor | None
    classifier: Module | None
    labels: np.ndarray
    class_weights: np.ndarray | None
    batch: SparseBatch | None = None


Value = tuple["Tensor", Any]  # the loss, and an array of it and, for a classifier, the number of correct samples


@dataclass(frozen=True)
class Term:
    """A term: its settings, with their defaults, and

    classifies : whether it trains a classifier, the network's last layer
    metric : distance by which descriptors that it trains are ranked unless evaluation.metric says otherwise
    compares : whether it compares samples of a class within the batch, which therefore needs several of each
    per_site : whether it needs a row for each site, and no other term beside it
    whole_batch : whether its value is no mean over rows, each with a loss of its own: it is computed from the
        descriptors of the whole batch, also if this is cut into shards
    """

    weight: float = key(1.0, "factor of the term in the sum", above=0)

    classifies: ClassVar[bool] = False
    metric: ClassVar[str] = "cosine"
    compares: ClassVar[bool] = False
    per_site: ClassVar[bool] = False
    whole_batch: ClassVar[bool] = False

    @property
    def draws_triplets(self) -> bool:
        """Whether its batches are triplets."""
        return False

    def problem(self) -> str:
        """The fault of its settings taken together, "" if there is none."""
        return ""

    def add_classifier(self, net: SparseNetwork, classes: int) -> None:
        """Append the classifier that it trains."""
        raise NotImplementedError

    def value(self, view: View, vectors: Parameter | None) -> Value:
        """The loss of a batch.  vectors : (classes, C), those that it learns"""
        raise NotImplementedError

    def mass(self, batch: SparseBatch, class_weights: np.ndarray | None) -> tuple[float, int]:
        """The total weight of the rows of a batch, by which its loss divides their sum, and the number of these rows.
        The loss of several batches together is the mean of theirs, weighted by these."""
        return float(len(batch)), len(batch)


TERMS: dict[str, type[Term]] = {}  # by kind


def term(kind: str) -> Callable[[type[Term]], type[Term]]:
    """Decorator: registers a class of terms under the name of its kind."""
    def register(of_kind: type[Term]) -> type[Term]:
        TERMS[kind] = of_kind
        return of_kind
    return register


def kind_of(one: Term) -> str:
    """The name under which its class is registered."""
    return next(kind for kind, registered in TERMS.items() if type(one) is registered)


def terms_of(loss: LossConfig) -> tuple[Term, ...]:
    """The terms of loss.terms, or the one that loss.kind stands for."""
    if loss.kind == "terms":
        return tuple(TERMS[given["kind"]](**{name: value for name, value in given.items() if name != "kind"})
                     for given in loss.terms)
    of_kind = TERMS[loss.kind]
    return (of_kind(**{f.name: getattr(loss, f.name) for f in fields(of_kind) if f.name != "weight"}),)


def classifier_of(loss: LossConfig) -> Term | None:
    """The term that trains a classifier; None if none does."""
    return next((one for one in terms_of(loss) if one.classifies), None)


def sampling_of(loss: LossConfig) -> str:
    """How batches are drawn: "shuffled", "balanced" or "triplets"."""
    terms = terms_of(loss)
    if any(one.draws_triplets for one in terms):
        return "triplets"
    if loss.sampling != "auto":
        return loss.sampling
    return "balanced" if any(one.compares for one in terms) else "shuffled"


def describe_terms() -> list[str]:
    """A line for each kind of term: its settings, with their defaults."""
    return [f"{kind}: {', '.join(f'{f.name} = {as_toml(f.default)}' for f in fields(of_kind))}"
            for kind, of_kind in TERMS.items()]


# ---- classifiers ----

@term("softmax")
@dataclass(frozen=True)
class Softmax(Term):
    """Cross entropy of a linear classifier; see `ops.softmax_cross_entropy`."""

    label_smoothing: float = key(0.0, "share of a label that is spread over all classes (ours)", at_least=0, below=1)
    class_weights: str = key("none", "'balanced': a sample of class c counts objects / (classes * objects of c); "
                                     "'none': each counts 1", choices=CLASS_WEIGHTS)

    classifies: ClassVar[bool] = True
    metric: ClassVar[str] = "l2"

    def add_classifier(self, net: SparseNetwork, classes: int) -> None:
        net.add_linear(classes)

    def value(self, view: View, vectors: Parameter | None) -> Value:
        assert view.classifier is not None
        weights = view.class_weights if self.class_weights == "balanced" else None
        return ops.softmax_cross_entropy_with_figures(view.classifier(view.inputs), view.labels, self.label_smoothing,
                                                      weights)

    def mass(self, batch: SparseBatch, class_weights: np.ndarray | None) -> tuple[float, int]:
        return self._mass(batch.labels, class_weights)

    def _mass(self, labels: np.ndarray, class_weights: np.ndarray | None) -> tuple[float, int]:
        if self.class_weights != "balanced" or class_weights is None:
            return float(len(labels)), len(labels)
        return float(class_weights[labels].sum()), len(labels)


@term("segmentation")
@dataclass(frozen=True)
class Segmentation(Softmax):
    """Cross entropy of a linear classifier of each site, over the sites of the batch whose part is known."""

    per_site: ClassVar[bool] = True

    def add_classifier(self, net: SparseNetwork, classes: int) -> None:
        net.add_submanifold(classes, 1)

    def value(self, view: View, vectors: Parameter | None) -> Value:
        assert view.classifier is not None and view.batch is not None
        x, labels = view.batch.input, view.batch.site_labels
        y: Any = view.classifier(view.inputs)
        if y.sites is not x.sites:
            raise ValueError(f"segmentation: the network gives {len(y)} sites for the {len(x)} of its input: end "
                             "network.layers with layers that keep these or go back to them")
        weights = view.class_weights if self.class_weights == "balanced" else None
        loss, figures = ops.softmax_cross_entropy_with_figures(y.features, labels, self.label_smoothing, weights,
                                                               ignore_label=UNKNOWN)
        # As a number of samples, of which the loop takes the share: the share of sites, in samples.
        known = max(1, np.count_nonzero(labels != UNKNOWN))
        return loss, figures * array_module(figures).asarray([1, len(view.batch) / known])

    def mass(self, batch: SparseBatch, class_weights: np.ndarray | None) -> tuple[float, int]:
        assert batch.site_labels is not None
        return self._mass(batch.site_labels[batch.site_labels != UNKNOWN], class_weights)


@term("cosine_softmax")
@dataclass(frozen=True)
class CosineSoftmax(Term):
    """Cross entropy of a cosine classifier with a margin in training; see `ops.cosine_softmax`."""

    scale: float = key(14.0, "factor of the cosines", above=0)
    margin: float = key(0.1, "margin at the label, 0 for normface", at_least=0)
    variant: str = key("cosface", "'cosface': the margin is subtracted from the cosine; 'arcface': added to the angle, "
                                  "in radians; 'normface': there is none", choices=VARIANTS)

    classifies: ClassVar[bool] = True

    def problem(self) -> str:
        if self.variant == "normface" and self.margin:
            return f"margin is {self.margin}, and normface has none: set margin = 0, or another variant"
        if self.variant == "arcface" and self.margin > math.pi:
            return f"margin is {self.margin}, expected an angle of at most pi for arcface"
        return ""

    def add_classifier(self, net: SparseNetwork, classes: int) -> None:
        net.add_cosine_linear(classes, self.scale)

    def value(self, view: View, vectors: Parameter | None) -> Value:
        assert view.classifier is not None and view.inputs is not None
        return ops.cosine_softmax_with_figures(view.inputs, view.classifier.weight, view.labels, self.scale,
                                               self.margin, self.variant)


# ---- comparisons within a batch ----

@term("contrastive")
@dataclass(frozen=True)
class Contrastive(Term):
    """See `ops.supervised_contrastive`.  It sees the descriptors through network.projection, if there is one."""

    temperature: float = key(0.1, "divisor of the cosines", above=0)

    compares: ClassVar[bool] = True
    whole_batch: ClassVar[bool] = True

    def value(self, view: View, vectors: Parameter | None) -> Value:
        return _alone(ops.supervised_contrastive(view.projected, view.labels, self.temperature))


@term("triplet")
@dataclass(frozen=True)
class Triplet(Term):
    """See `ops.triplet_loss`."""

    margin: float = key(0.2, "margin (ours: the paper gives none)", at_least=0)
    distance: str = key("cosine", "distance of descriptors", choices=DISTANCES)
    mining: str = key("semi_hard", "'hard', 'semi_hard': triplets mined in the batch", choices=("hard", "semi_hard"))

    compares: ClassVar[bool] = True
    whole_batch: ClassVar[bool] = True

    @property
    def draws_triplets(self) -> bool:
        return self.mining == "none"  # as loss.mining may be, but not in a list of terms

    def problem(self) -> str:
        lacking = self.mining == "semi_hard" and not self.margin
        return "margin is 0, semi-hard mining needs one above 0" if lacking else ""

    def value(self, view: View, vectors: Parameter | None) -> Value:
        descriptors = view.descriptors
        if self.draws_triplets:  # TripletSampler: anchors, then their positives, then their negatives
            rows = array_module(descriptors.array).arange(len(view.labels)).reshape(3, -1)
        elif self.mining == "hard":
            rows = batch_hard(descriptors, to_device(view.labels, descriptors.device), self.distance)
        else:
            rows = semi_hard(descriptors, to_device(view.labels, descriptors.device), self.margin, self.distance)
        anchor, positive, negative = (descriptors[chosen] for chosen in rows)
        return _alone(ops.triplet_loss(anchor, positive, negative, self.margin, self.distance))


# ---- vectors learned for each class ----

@dataclass(frozen=True)
class Learning(Term):
    """A term that learns vectors (classes, C) of the name `learned`."""

    lr_factor: float = key(1.0, "factor of the learning rate for the vectors that it learns, which do not decay",
                           above=0)

    learned: ClassVar[str]


@term("centre")
@dataclass(frozen=True)
class Centre(Learning):
    """See `ops.centre_loss`."""

    metric: ClassVar[str] = "l2"
    learned: ClassVar[str] = "centres"

    def value(self, view: View, vectors: Parameter | None) -> Value:
        assert vectors is not None
        return _alone(ops.centre_loss(view.descriptors, vectors, view.labels))


@term("triplet_centre")
@dataclass(frozen=True)
class TripletCentre(Learning):
    """See `ops.triplet_centre_loss`."""

    margin: float = key(5.0, "margin in halves of squared distances (the paper's)", at_least=0)

    metric: ClassVar[str] = "l2"
    learned: ClassVar[str] = "centres"

    def value(self, view: View, vectors: Parameter | None) -> Value:
        assert vectors is not None
        return _alone(ops.triplet_centre_loss(view.descriptors, vectors, view.labels, self.margin))


@term("proxy_anchor")
@dataclass(frozen=True)
class ProxyAnchor(Learning):
    """See `ops.proxy_anchor`."""

    alpha: float = key(32.0, "sharpness (the paper's)", above=0)
    margin: float = key(0.1, "margin of the cosines (the paper's)", at_least=0)

    learned: ClassVar[str] = "proxies"
    whole_batch: ClassVar[bool] = True

    def value(self, view: View, vectors: Parameter | None) -> Value:
        assert vectors is not None
        return _alone(ops.proxy_anchor(view.descriptors, vectors, view.labels, self.alpha, self.margin))


def _alone(loss: Tensor) -> Value:
    return loss, loss.array.reshape(1)
