"""Evaluates a network: on the validation split during training, on the test split at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.retrieval.metrics import PAPER_OBJECTS
from sparsenet.training.config import ConfigError
from sparsenet.training.known_classes import known_labels, retrievable
from sparsenet.training.schema import Config

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.nn import SparseNetwork
    from sparsenet.retrieval import Evaluation

NO_RETRIEVAL = "no class has two test objects: retrieval is not evaluated"


def validate(net: SparseNetwork, validation_set: SparseDataset, config: Config) -> dict[str, float]:
    """Validate a network: validation_accuracy and validation_loss of a classifier, validation_mAP of descriptors.

    One pass over the objects, each in its first pose, without augmentation.
    """
    labels = validation_set.object_labels
    if config.loss.kind == "softmax":
        return _classification(net.predict(validation_set, **_options(config)), labels, "validation")
    from sparsenet.retrieval import embed, evaluate

    found = evaluate(embed(net, validation_set, **_options(config)), labels, ranking_metric(config))
    return {"validation_mAP": found.mAP}


def score(figures: dict[str, float]) -> tuple[float, float] | None:
    """The sort key of a validation, greater is better; None without a validation.

    A classifier is ranked by accuracy, then by loss; descriptors by mAP.
    """
    if "validation_mAP" in figures:
        return figures["validation_mAP"], 0.0
    if "validation_accuracy" in figures:
        return figures["validation_accuracy"], -figures["validation_loss"]
    return None


def evaluate_network(net: SparseNetwork, test_set: SparseDataset, config: Config, classes: Sequence[str] | None = None
                     ) -> tuple[dict[str, float], Evaluation | None]:
    """The final figures of a run: accuracy and loss of a classifier, and retrieval, as [evaluation] specifies.

    classes : class names in the order of the network's outputs; default: the test set's.  The accuracy is over the
        test set's objects of these classes, and absent if none is; retrieval is over all objects.

    The evaluation is None for a classifier if no class has two test objects, since nothing can be retrieved.
    """
    from sparsenet.retrieval import embed, evaluate

    figures: dict[str, float] = {}
    options = {**_options(config), "repetitions": config.evaluation.repetitions}
    if config.evaluation.repetitions > 1:
        options |= {"augment": _rotations(config), "seed": config.training.seed}
    labels = known_labels(test_set, test_set.classes if classes is None else classes)
    known = labels >= 0
    if config.loss.kind == "softmax" and known.any():
        probabilities = net.predict(test_set, poses=config.evaluation.poses, **options)
        figures |= _classification(probabilities[known], labels[known], "test")
    if not retrievable(test_set):
        return figures, None
    descriptors = embed(net, test_set, poses=config.evaluation.poses, **options)
    names = test_set.names[test_set.first_poses]
    protocol = None if config.evaluation.protocol == "none" else config.evaluation.protocol
    evaluation = evaluate(descriptors, test_set.object_labels, ranking_metric(config), protocol, names)
    figures |= {f"test_{name}": getattr(evaluation, name) for name in ("mAP", "AUC", "NN", "FT", "ST", "E", "NDCG")}
    return figures, evaluation


def ranking_metric(config: Config) -> str:
    """The distance by which descriptors are ranked.  The paper uses l2 for a classifier, cosine for triplets."""
    if config.evaluation.metric != "auto":
        return config.evaluation.metric
    return "l2" if config.loss.kind == "softmax" else "cosine"


def check_evaluation(test_set: SparseDataset, config: Config) -> None:
    """Raise ConfigError before training for settings that would fail in the final evaluation, hours later."""
    counts = np.bincount(test_set.object_labels, minlength=len(test_set.classes))
    present = counts[counts > 0]
    if config.evaluation.protocol == "paper" and present.min() < PAPER_OBJECTS:
        few = test_set.classes[int(np.where(counts > 0, counts, counts.max()).argmin())]
        raise ConfigError(f"config: evaluation.protocol 'paper' takes {PAPER_OBJECTS} objects of each class, and "
                          f"{test_set.path} has {present.min()} of {few!r} to test on: use 'none'")
    if config.loss.kind == "triplet" and not retrievable(test_set):
        raise ConfigError(f"config: no class of the split {config.data.test_split!r} of {test_set.path} has two "
                          "objects: triplets are evaluated by retrieval, and nothing can be retrieved")
    if config.evaluation.repetitions > 1 and config.augmentation.rotation == "none":
        raise ConfigError(f"config: evaluation.repetitions is {config.evaluation.repetitions}, but without "
                          "augmentation.rotation all of them are equal: set it to 1, or evaluation.poses to 'mean'")


def check_validation(validation_set: SparseDataset, config: Config) -> None:
    """Raise ConfigError if the triplet loss is used and no class of the validation set has two objects."""
    if config.loss.kind == "triplet" and len(validation_set) and not retrievable(validation_set):
        raise ConfigError(f"config: no class has two objects in the validation part of {validation_set.path}: "
                          "triplets are evaluated by retrieval: raise data.validation_share, which is "
                          f"{config.data.validation_share:g}, or set it to 0")


def _options(config: Config) -> dict[str, Any]:
    """The options of `predict` and `embed` that say how samples are prepared."""
    return {"batch_size": config.evaluation.batch_size, "workers": config.data.workers,
            "render_size": config.data.render_size or None, "device": config.training.device}


def _rotations(config: Config) -> Any:
    from sparsenet.shapes import Augmentation

    return Augmentation(config.augmentation.rotation, affine=0.0, shift=0.0, up_axis=config.augmentation.up_axis)


def _classification(probabilities: np.ndarray, labels: np.ndarray, part: str) -> dict[str, float]:
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {f"{part}_accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
            f"{part}_loss": 0.0 - float(np.log(np.maximum(of_label, np.finfo(np.float32).tiny)).mean())}  # no -0.0
