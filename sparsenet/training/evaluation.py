"""Evaluates a network: on the validation split during training, on the test split at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.autograd import no_grad
from sparsenet.nn.prediction import by_sample, with_poses
from sparsenet.retrieval.embedding import embed, logit_adjustment
from sparsenet.retrieval.metrics import evaluate
from sparsenet.retrieval.protocols import PAPER_OBJECTS
from sparsenet.retrieval.result import MEASURES, Evaluation
from sparsenet.segmentation import SegmentationEvaluation, Tally
from sparsenet.training.build import rendering
from sparsenet.training.classification import TOP_K, accuracy_and_loss, class_accuracies, top_k_accuracy
from sparsenet.training.config import ConfigError
from sparsenet.training.known_classes import known_labels, retrievable
from sparsenet.training.losses import classifies, layer_metric, segments
from sparsenet.training.schema import Config
from sparsenet.training.terms import UNKNOWN

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.nn import SparseNetwork

NO_RETRIEVAL = "no class has two test objects: retrieval is not evaluated"


def validate(net: SparseNetwork, validation_set: SparseDataset, config: Config) -> dict[str, float]:
    """Validate a network: validation_accuracy and validation_loss of a classifier, validation_mAP of descriptors; of a
    segmentation see `evaluate_sites`.

    One pass over the objects, each in its first pose, without augmentation.
    """
    labels = validation_set.object_labels
    if segments(config):
        return evaluate_sites(net, validation_set, config, "validation")[0]
    options = _options(config, validation_set, net)
    if classifies(config):
        return accuracy_and_loss(net.predict(validation_set, **options), labels, "validation")
    found = evaluate(embed(net, validation_set, **options), labels, ranking_metric(config, "layer"))
    return {"validation_mAP": found.mAP}


def score(figures: dict[str, float]) -> tuple[float, float] | None:
    """The sort key of a validation, greater is better; None without a validation.

    A classifier is ranked by accuracy, then by loss; descriptors by mAP; a segmentation by mean IoU, then by loss.
    """
    if "validation_mIoU" in figures:
        return figures["validation_mIoU"], -figures["validation_loss"]
    if "validation_mAP" in figures:
        return figures["validation_mAP"], 0.0
    if "validation_accuracy" in figures:
        return figures["validation_accuracy"], -figures["validation_loss"]
    return None


def stalled(history: Sequence[dict[str, float]], patience: int) -> bool:
    """Whether so many validations in a row were no better than the best before them; never for a patience of 0."""
    scores = [found for row in history if (found := score(row)) is not None]
    return patience > 0 and bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= patience


@dataclass(frozen=True)
class NetworkEvaluation:
    """The final evaluation of a network.

    figures : name -> figure: test_accuracy, test_loss, test_class_mean_accuracy and, with more than five classes,
        test_top5_accuracy of a classifier; test_mAP, test_AUC, ... of the layer's descriptors, test_posterior_mAP, ...
        of a classifier's class probabilities, and test_chance, the mAP of a random ranking; of a segmentation see
        `evaluate_sites`
    descriptor, posterior : the retrieval by the layer's descriptors, and by a classifier's class probabilities
    probabilities : (O, classes) float32 of the test set's objects, None without a classifier
    labels : (O,) int64, the class of each object as its number in the network's outputs, -1 if it does not know it
    output : which of the two `evaluation` is: "layer" or "probabilities"
    segmentation : the overlap of predicted and true labels of sites, None unless the network labels sites
    """

    figures: dict[str, float]
    descriptor: Evaluation | None
    posterior: Evaluation | None
    probabilities: np.ndarray | None
    labels: np.ndarray
    output: str
    segmentation: SegmentationEvaluation | None = None

    @property
    def evaluation(self) -> Evaluation | None:
        """The retrieval by what evaluation.descriptor names; None if no class has two test objects."""
        return self.posterior if self.output == "probabilities" else self.descriptor


def evaluate_network(net: SparseNetwork, test_set: SparseDataset, config: Config, classes: Sequence[str] | None = None,
                     class_counts: Sequence[int] | None = None) -> NetworkEvaluation:
    """The final figures of a run: accuracy and loss of a classifier, and retrieval, as [evaluation] specifies.

    classes : class names in the order of the network's outputs; default: the test set's.  The accuracy is over the
        test set's objects of these classes, and absent if none is; retrieval is over all objects.
    class_counts : training samples of each of these classes, for evaluation.prior

    Nothing is retrieved by a classifier if no class has two test objects.

    Raises ConfigError if evaluation.prior is set without class_counts.
    """
    if segments(config):
        figures, overlap = evaluate_sites(net, test_set, config, "test", classes)
        nothing = np.full(len(test_set.object_labels), -1)
        return NetworkEvaluation(figures, None, None, None, nothing, config.evaluation.descriptor, overlap)
    options = {**_options(config, test_set, net), "repetitions": config.evaluation.repetitions}
    if config.evaluation.repetitions > 1:
        options |= {"augment": _rotations(config), "seed": config.training.seed}
    labels = known_labels(test_set, test_set.classes if classes is None else classes)
    known, probabilities = labels >= 0, None
    figures = {}
    posterior = options | {"output": "probabilities", "logit_offsets": _offsets(config, class_counts)}
    if classifies(config):
        poses = "mean" if config.evaluation.poses == "max" else config.evaluation.poses
        probabilities = embed(net, test_set, poses=poses, **posterior)
        if known.any():
            figures |= _classification(probabilities[known], labels[known])
    by_layer = by_class = None
    if retrievable(test_set):
        averaged = config.evaluation.poses != "first" or config.evaluation.repetitions > 1
        unit = averaged and ranking_metric(config, "layer") == "cosine"
        by_layer = _retrieval(net, test_set, config, "layer", None, options | {"unit": unit})
        figures |= {f"test_{name}": getattr(by_layer, name) for name in _retrieval_names(config)}
        if classifies(config):
            ready = None if config.evaluation.poses == "max" else probabilities
            by_class = _retrieval(net, test_set, config, "probabilities", ready, posterior)
            figures |= {f"test_posterior_{name}": getattr(by_class, name) for name in _retrieval_names(config)}
        figures["test_chance"] = by_layer.chance
    return NetworkEvaluation(figures, by_layer, by_class, probabilities, labels, config.evaluation.descriptor)


def evaluate_sites(net: SparseNetwork, dataset: SparseDataset, config: Config, part: str,
                   classes: Sequence[str] | None = None) -> tuple[dict[str, float], SegmentationEvaluation]:
    """PART_mIoU, PART_shape_mIoU, PART_accuracy and PART_loss of a network that labels sites, and the whole evaluation.

    classes : names of its parts; default: the dataset's.  Sites of others, and of unknown parts, count nowhere.

    One pass over the objects, each in its first pose, without augmentation.

    Raises ConfigError if no site here is of a part that the network knows.
    """
    names = dataset.part_classes if classes is None else list(classes)
    number = {name: label for label, name in enumerate(names)}
    of_part = np.array([*(number.get(name, UNKNOWN) for name in dataset.part_classes), UNKNOWN])  # -1 is the last
    tally, total = Tally(names, UNKNOWN), 0.0
    with no_grad(), net.evaluating(), dataset.batches(
            **_options(config, dataset, net), poses="first", field=net.field, geometries=net.geometries()) as batches:
        for batch in batches:
            logits = net(batch).features.numpy().astype(np.float64)
            labels = of_part[batch.site_labels]
            known = labels != UNKNOWN
            top = logits.max(axis=1, initial=-np.inf, keepdims=True)
            of_label = np.take_along_axis(logits - top, labels[:, None] % len(names), axis=1)[:, 0]
            total += float((np.log(np.exp(logits - top).sum(axis=1)) - of_label)[known].sum())
            for rows, own in zip(by_sample(batch.input, logits), by_sample(batch.input, labels), strict=True):
                tally.add(rows, own)
    found = tally.evaluation()
    if not found.confusion.sum():
        raise ConfigError(f"{dataset.path}: no site here is of a part that the network knows, {', '.join(names)}: "
                          "nothing can be evaluated")
    return {f"{part}_mIoU": found.mIoU, f"{part}_shape_mIoU": found.shape_mIoU, f"{part}_accuracy": found.accuracy,
            f"{part}_loss": total / int(found.confusion.sum())}, found


def _retrieval(net: SparseNetwork, test_set: SparseDataset, config: Config, output: str, ready: np.ndarray | None,
               options: dict[str, Any]) -> Evaluation:
    """The retrieval by one kind of descriptors; `ready`: those of the objects, if they are known already."""
    protocol = None if config.evaluation.protocol == "none" else config.evaluation.protocol
    metric = ranking_metric(config, output)
    if protocol == "3dshapenets":  # each pose is an item
        each = embed(net, test_set, poses="all", **options)
        return evaluate(each, test_set.labels, metric, protocol, test_set.names)
    vectors = embed(net, test_set, poses=config.evaluation.poses, **options) if ready is None else ready
    return evaluate(vectors, test_set.object_labels, metric, protocol, test_set.names[test_set.first_poses])


def _retrieval_names(config: Config) -> tuple[str, ...]:
    return (*MEASURES, "interpolated_mAP") if config.evaluation.protocol == "3dshapenets" else MEASURES


def _offsets(config: Config, class_counts: Sequence[int] | None) -> np.ndarray | None:
    """The numbers that evaluation.prior adds to the logits."""
    if not config.evaluation.prior:
        return None
    if class_counts is None:
        raise ConfigError(f"config: evaluation.prior is {config.evaluation.prior:g}, but the checkpoint does not state "
                          "how many training samples each class had: train again, or set it to 0")
    return logit_adjustment(class_counts, config.evaluation.prior)


def ranking_metric(config: Config, output: str | None = None) -> str:
    """The distance by which descriptors are ranked.  The paper uses l2 for a classifier's layer, cosine for triplets,
    and so do losses of one term or the other; class probabilities are ranked by cosine.

    output : "layer" (or "descriptor", as `embed` calls it) or "probabilities"; default: evaluation.descriptor
    """
    if config.evaluation.metric != "auto":
        return config.evaluation.metric
    of_layer = (output or config.evaluation.descriptor) != "probabilities"
    return layer_metric(config) if of_layer else "cosine"


def check_evaluation(test_set: SparseDataset, config: Config) -> None:
    """Raise ConfigError before training for settings that would fail in the final evaluation, hours later."""
    if segments(config):
        return
    counts = np.bincount(test_set.object_labels, minlength=len(test_set.classes))
    present = counts[counts > 0]
    if config.evaluation.protocol != "none" and present.min() < PAPER_OBJECTS:
        few = test_set.classes[int(np.where(counts > 0, counts, counts.max()).argmin())]
        raise ConfigError(f"config: evaluation.protocol {config.evaluation.protocol!r} takes {PAPER_OBJECTS} objects "
                          f"of each class, and {test_set.path} has {present.min()} of {few!r} to test on: use 'none' "
                          "(for a trained network: --protocol none)")
    if not isinstance(config.evaluation.poses, str):
        try:
            with_poses(test_set, config.evaluation.poses, "evaluation.poses")
        except ValueError as error:
            raise ConfigError(f"config: {error}") from None
    if not classifies(config) and (config.evaluation.descriptor != "layer" or config.evaluation.prior):
        name = "prior" if config.evaluation.descriptor == "layer" else "descriptor"
        raise ConfigError(f"config: evaluation.{name} is {getattr(config.evaluation, name)!r}, but a network trained "
                          f"with loss.kind {config.loss.kind!r} has no class probabilities: leave it out")
    if not classifies(config) and not retrievable(test_set):
        raise ConfigError(f"config: no class of the split {config.data.test_split!r} of {test_set.path} has two "
                          "objects: descriptors are evaluated by retrieval, and nothing can be retrieved")
    if config.evaluation.repetitions > 1 and config.augmentation.rotation == "none":
        raise ConfigError(f"config: evaluation.repetitions is {config.evaluation.repetitions}, but without "
                          "augmentation.rotation all of them are equal: set it to 1, or evaluation.poses to 'mean'")


def check_validation(validation_set: SparseDataset, config: Config) -> None:
    """Raise ConfigError if no term of the loss classifies and no class of the validation set has two objects, or
    training.patience is set without validations."""
    if config.training.patience and not (len(validation_set) and config.training.validate_every):
        raise ConfigError(f"config: training.patience is {config.training.patience}, and nothing is validated: set it "
                          "to 0, or data.validation_share and training.validate_every above 0")
    if not classifies(config) and len(validation_set) and not retrievable(validation_set):
        raise ConfigError(f"config: no class has two objects in the validation part of {validation_set.path}: "
                          "descriptors are evaluated by retrieval: raise data.validation_share, which is "
                          f"{config.data.validation_share:g}, or set it to 0")


def _options(config: Config, shapes: SparseDataset, net: SparseNetwork) -> dict[str, Any]:
    """The options of `predict` and `embed` that say how samples are prepared."""
    return {"batch_size": config.evaluation.batch_size, "workers": config.data.workers,
            "device": config.training.device, **rendering(config, shapes, net)}


def _rotations(config: Config) -> Any:
    from sparsenet.shapes import Augmentation

    return Augmentation(config.augmentation.rotation, affine=0.0, shift=0.0, up_axis=config.augmentation.up_axis)


def _classification(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The figures of a classifier on test objects of classes that it knows."""
    figures = accuracy_and_loss(probabilities, labels, "test")
    names = [str(label) for label in range(probabilities.shape[1])]
    of_classes = class_accuracies(probabilities, labels, names).values()
    figures["test_class_mean_accuracy"] = float(np.mean([accuracy for _, accuracy in of_classes]))
    if probabilities.shape[1] > TOP_K:
        figures[f"test_top{TOP_K}_accuracy"] = top_k_accuracy(probabilities, labels)
    return figures
