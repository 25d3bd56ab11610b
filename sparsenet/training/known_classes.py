"""Selects the shapes that a trained network is evaluated on, and matches their classes by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.training.config import ConfigError
from sparsenet.training.losses import classifies
from sparsenet.wording import counted, listed

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.training.checkpoint import Checkpoint
    from sparsenet.training.schema import Config

NAMES_TOLD = 5  # unknown classes named in a sentence


def known_labels(shapes: SparseDataset, classes: Sequence[str]) -> np.ndarray:
    """(O,) int64: the class of each object as its number in `classes`, -1 if its name is not among them."""
    number = {name: label for label, name in enumerate(classes)}
    of_class = np.array([*(number.get(name, -1) for name in shapes.classes), -1])  # label -1 indexes the last entry
    return of_class[shapes.object_labels]


def retrievable(test_set: SparseDataset) -> bool:
    """Whether any class has at least two objects, so that one can retrieve the other."""
    return np.bincount(test_set.object_labels, minlength=1).max() > 1


@dataclass(frozen=True)
class Selection:
    """The shapes to evaluate a network on, and the numbers left out.

    shapes : the labelled shapes, whatever their classes
    known : number of these whose class the network knows
    unknown_classes : names of the classes that it does not know
    unlabelled : number of shapes left out because they have no label
    not_shared : number of shapes left out because training left out their classes (data.classes = "shared")
    """

    shapes: SparseDataset
    known: int
    unknown_classes: list[str]
    unlabelled: int
    not_shared: int

    @property
    def unknown(self) -> int:
        """The number of shapes whose class the network does not know."""
        return len(self.shapes.object_labels) - self.known

    def figures(self) -> dict[str, Any]:
        """The counts as a dict that JSON can hold."""
        return {"shapes": len(self.shapes.object_labels), "shapes_of_unknown_classes": self.unknown,
                "unknown_classes": self.unknown_classes, "unlabelled": self.unlabelled,
                "not_shared": self.not_shared}

    def remarks(self, classifies: bool) -> list[str]:
        """One sentence for each group left out; `classifies`: whether the network is a classifier."""
        lines = []
        total, names = len(self.shapes.object_labels), listed(self.unknown_classes, NAMES_TOLD)
        if classifies and not self.known:
            lines.append(f"no accuracy: the network knows none of the classes ({names}); only retrieval is evaluated")
        elif classifies and self.unknown:
            lines.append(f"left out of the accuracy: {self.unknown} of {total} shapes, of classes that the network "
                         f"does not know ({names})")
        elif self.unknown:
            lines.append(f"{self.unknown} of {total} shapes are of classes that the network was not trained on "
                         f"({names})")
        labels = set(self.shapes.object_labels.tolist())
        if len(labels) == 1:
            lines.append(f"note: all shapes are of one class, {self.shapes.classes[labels.pop()]!r}: any ranking is "
                         "100% right about it")
        if self.unlabelled:
            lines.append(f"left out: {counted(self.unlabelled, 'shape')} without a label")
        if self.not_shared:
            lines.append(f"left out: {counted(self.not_shared, 'shape')} of classes that are not in both splits "
                         "(data.classes is 'shared')")
        return lines


def select_shapes(dataset: SparseDataset, state: Checkpoint, config: Config) -> Selection:
    """The labelled shapes of a dataset; if it is the training dataset, only those that config.data.classes selects.

    Raises ConfigError if neither accuracy nor retrieval can be computed.
    """
    names = dataset.classes
    if config.data.classes == "shared" and dataset.digest == state.dataset:
        names = [name for name in names if name in state.classes]
    shapes = dataset.only_classes(names)
    labels = known_labels(shapes, state.classes)
    present = {shapes.classes[label] for label in shapes.object_labels}
    unlabelled = int(np.count_nonzero(dataset.object_labels < 0))
    selection = Selection(shapes, int(np.count_nonzero(labels >= 0)), sorted(present - set(state.classes)), unlabelled,
                          len(dataset.object_labels) - unlabelled - len(labels))
    if not len(labels):
        raise ConfigError(f"{dataset.path}: none of its {len(dataset.object_labels)} shapes here has a label, so "
                          "nothing can be evaluated (`sparsenet embed` and `sparsenet search` need no labels)")
    classifier = classifies(config)
    if not retrievable(shapes) and not (classifier and selection.known):
        why = "the network knows none of the classes, and " if classifier else ""
        raise ConfigError(f"{dataset.path}: {why}no class has two shapes here, so nothing can be evaluated; the "
                          f"classes are {listed(sorted(present), NAMES_TOLD)}")
    return selection
