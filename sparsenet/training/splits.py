"""The training, validation and test parts of a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparsenet.data.folders import SPLITS
from sparsenet.training.config import ConfigError
from sparsenet.training.losses import class_names, segments, site_counts
from sparsenet.training.schema import Config
from sparsenet.wording import counted, listed

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset

# Names of validation splits, the first match counts.  (Importers write all of them as "val".)
VALIDATION_NAMES = tuple(name for name, split in SPLITS.items() if split == "val")
_NAMED = 5  # classes listed in a message


@dataclass(frozen=True)
class Splits:
    """Three views of one dataset, with the same label numbers.

    training, test : neither is empty, and each class has a training sample
    validation : may be empty; then the last epoch is the best
    held_out_of : the split from which the validation part was held out; "" if it is a split of its own
    classes : names of the classes to tell apart: of the shapes, or of their parts
    unused : number of samples in each unused split, by name
    left_out : number of samples in the used splits that are unlabelled or of an unused class
    """

    training: SparseDataset
    validation: SparseDataset
    test: SparseDataset
    held_out_of: str
    classes: list[str]
    unused: dict[str, int]
    left_out: int

    def lines(self) -> list[str]:
        """The messages to show before the first epoch."""
        validation = f"{len(self.validation.object_samples)} for validation"
        if self.held_out_of:
            validation += f" (held out of {self.held_out_of!r})"
        if not len(self.validation):
            validation = "none for validation (the last epoch is the best)"
        nouns = ("class", "classes") if self.classes == self.training.classes else ("part", "parts")
        lines = [f"data: {counted(len(self.training.object_samples), 'shape')} of {counted(len(self.classes), *nouns)} "
                 f"for training, {validation}, "
                 f"{len(self.test.object_samples)} for testing"]
        if self.unused:
            counts = ", ".join(f"{name!r} {count}" for name, count in self.unused.items())
            samples = counted(sum(self.unused.values()), "sample is", "samples are")
            lines.append(f"note: {samples} in unused splits: {counts}")
        if self.left_out:
            lines.append(f"note: {counted(self.left_out, 'sample is', 'samples are')} left out: unlabelled, or of an "
                         "unused class")
        return [*lines, *filter(None, [self.remark])]

    @property
    def remark(self) -> str:
        """A note if the accuracy is meaningless, or ""."""
        if len(self.classes) > 1:
            return ""
        return f"note: there is one class, {self.classes[0]!r}: any network is 100% right about it"


@contextmanager
def opened_splits(config: Config, out: Path, anew: bool, progress: bool = False) -> Iterator[Splits]:
    """A context that opens the splits and classes selected by the config and closes the dataset at the end.

    The parametric dataset is made in `out`; `anew` makes it again if it exists.

    Raises
    ------
    ConfigError : no sample has a label, a split is empty, or a class has no training sample.
    FileNotFoundError, ValueError : no such dataset, not a dataset, or no such split.
    """
    from sparsenet.data import SparseDataset

    path = Path(config.data.path or out / "shapes.h5")
    if not config.data.path and (anew or not path.exists()):
        make_parametric(config, path, progress)
    with SparseDataset.open(path) as dataset:
        yield _split(dataset, config)


def _split(dataset: SparseDataset, config: Config) -> Splits:
    data = config.data
    by_site = segments(config)
    if by_site and not dataset.part_classes:
        raise ConfigError(f"config: loss.kind is segmentation, and {dataset.path} has no site labels: create it with "
                          "part_classes, or choose another loss")
    if not by_site and not (dataset.labels >= 0).any():
        raise ConfigError(f"config: no sample of {dataset.path} has a label, and training needs classes: import the "
                          "shapes with their classes, or search them with a network that is already trained")
    own = _validation_split(dataset, config)
    _check_split(dataset, "train_split", data.train_split)
    _check_split(dataset, "test_split", data.test_split)
    names = dataset.classes if data.classes == "all" else dataset.shared_classes(data.train_split, data.test_split)
    used = list(dict.fromkeys(name for name in (data.train_split, own, data.test_split) if name))
    parts = {name: dataset.subset(name) if by_site else dataset.subset(name).only_classes(names) for name in used}
    training, test = parts[data.train_split], parts[data.test_split]
    if not len(training) or not len(test):
        raise ConfigError(f"config: {dataset.path} has {len(training)} labelled samples in {data.train_split!r} and "
                          f"{len(test)} in {data.test_split!r}: set data.train_split and data.test_split")
    if not by_site:
        _check_classes(training, config)
    if own:
        validation = parts[own]
    else:
        training, validation = training.split(data.validation_share, config.training.seed)
    if by_site:
        _check_parts({"training": training, "validation": validation, "test": test})
    counts = {str(name): int(count) for name, count in zip(*np.unique(dataset.split, return_counts=True), strict=True)}
    return Splits(training, validation, test, held_out_of="" if own else data.train_split,
                  classes=class_names(config, training),
                  unused={name: count for name, count in counts.items() if name not in used},
                  left_out=sum(counts[name] for name in used) - sum(map(len, parts.values())))


def _validation_split(dataset: SparseDataset, config: Config) -> str:
    """The name of the validation split, or "" if the data has none."""
    if config.data.validation_split:
        _check_split(dataset, "validation_split", config.data.validation_split)
        if config.data.validation_split == config.data.test_split:
            raise ConfigError(f"config: data.validation_split is {config.data.test_split!r}, which is the test split: "
                              "it must not select the best epoch; leave it empty to hold out part of the training "
                              "split")
        return config.data.validation_split
    taken = config.data.train_split, config.data.test_split
    there = set(dataset.split.tolist()) - set(taken)
    return next((name for name in VALIDATION_NAMES if name in there), "")


def _check_split(dataset: SparseDataset, key: str, name: str) -> None:
    """Raise ConfigError if the split named by a key of [data] has no sample."""
    there = sorted(set(dataset.split.tolist()))
    if name not in there:
        raise ConfigError(f"config: data.{key} is {name!r}, which has no sample in {dataset.path}: there is "
                          f"{listed(list(map(repr, there)), _NAMED) or 'none'}: name another, or make the dataset with "
                          "one")


def _check_classes(training: SparseDataset, config: Config) -> None:
    """Raise ConfigError if a class has no training sample, because the network could never predict it."""
    counts = np.bincount(training.labels, minlength=len(training.classes))
    missing = [name for name, count in zip(training.classes, counts, strict=True) if not count]
    if missing:
        raise ConfigError(f"config: {training.path} has no training sample (split {config.data.train_split!r}) of "
                          f"{listed(list(map(repr, missing)), _NAMED)}: give each class one, set data.train_split, "
                          "or leave such classes out with data.classes = 'shared'")


def _check_parts(datasets: dict[str, SparseDataset]) -> None:
    """Raise ConfigError if one of the datasets has samples, but no site whose part is known."""
    for name, dataset in datasets.items():
        if len(dataset) and not site_counts(dataset).any():
            raise ConfigError(f"config: the {name} data of {dataset.path} have no site whose part is known: label some")


def make_parametric(config: Config, path: Path, progress: bool = False) -> None:
    """Write the parametric dataset of (training.seed, counts); it stores meshes if the config augments them."""
    from sparsenet.data.convert import Conversion
    from sparsenet.data.importers import import_parametric

    if not config.data.render_size:
        raise ConfigError("config: data.render_size is 0, the parametric dataset needs a size to be voxelized at")
    moved = config.augmentation.rotation != "none" or config.augmentation.affine > 0
    import_parametric(path, {config.data.train_split: config.data.parametric_train,
                             config.data.test_split: config.data.parametric_test}, config.training.seed,
                      Conversion(config.data.render_size, keep_meshes=moved, progress=progress), segments(config))
