"""Opens and embeds shapes as the config of a trained network says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.files import check_folder, seal_of
from sparsenet.retrieval.descriptors import Descriptors
from sparsenet.retrieval.progress import Watched
from sparsenet.training.build import check_field, rendering
from sparsenet.training.config import ConfigError
from sparsenet.training.evaluation import ranking_metric
from sparsenet.training.losses import classifies

if TYPE_CHECKING:
    from sparsenet.data import Part, SparseDataset
    from sparsenet.nn import SparseNetwork
    from sparsenet.training.checkpoint import Checkpoint
    from sparsenet.training.schema import Config

WHOLE_FILE = "all"


def open_shapes(config: Config, checkpoint: str | Path, dataset: str | Path | None = None,
                split: str | None = None) -> SparseDataset:
    """A split of a dataset.

    dataset : file; by default the training dataset: data.path, or shapes.h5 beside the checkpoint
    split : its name, or "all"; by default the config's test split

    Raises
    ------
    FileNotFoundError, ValueError : no such file, not a dataset, or no such split.
    """
    from sparsenet.data import SparseDataset
    from sparsenet.data.several_files import dataset_paths

    path = Path(dataset or config.data.path or Path(checkpoint).parent / "shapes.h5")
    for file in dataset_paths(path):
        if not file.exists():
            raise FileNotFoundError(f"{file}: no such dataset file: name one with --dataset")
    shapes = SparseDataset.open(path)
    split = config.data.test_split if split is None else split
    if split == WHOLE_FILE:
        return shapes
    if split not in shapes.split:
        there = ", ".join(map(repr, sorted(set(shapes.split.tolist())))) or "none"
        shapes.close()
        raise ValueError(f"{path}: split {split!r} has no sample, there is {there}: name one with --split, or "
                         f"--split {WHOLE_FILE}")
    return shapes.subset(split)


def check_output(output: str | Path, *sources: str | Path) -> None:
    """Raise ValueError if the output is also an input, and FileNotFoundError, IsADirectoryError or PermissionError
    as `check_folder` does."""
    check_folder(output)
    for source in sources:
        if Path(output).exists() and Path(source).exists() and Path(output).samefile(source):
            raise ValueError(f"{output}: would be overwritten while being read: name another output file")


def embed_shapes(net: SparseNetwork, state: Checkpoint, config: Config, shapes: SparseDataset,
                 layer: int | None = None, poses: str | Sequence[int] = "first", progress: bool = False,
                 descriptor: str | None = None, part: Part | None = None) -> Descriptors:
    """Descriptors of the shapes, batched as the config says, and voxelized like those of the training if meshes are
    stored.

    layer, poses : as in `embed`; poses are averaged as directions if the config ranks by cosine
    descriptor : "layer" or "probabilities"; default: "layer" if a layer is given, else evaluation.descriptor
    part : embed this part of the objects alone: on a GPU in the batches in which all would be embedded, on a CPU, where
        a descriptor does not depend on its batch, cut anywhere

    Raises ConfigError if they are larger than the network's field, and for the probabilities of no classifier.
    """
    descriptor = descriptor or (config.evaluation.descriptor if layer is None else "layer")
    if descriptor == "probabilities" and not classifies(config):
        raise ConfigError("embed: the network is not a classifier, so it has no class probabilities: embed by a layer")
    of_layer = descriptor == "layer"
    unit = of_layer and poses != "first" and ranking_metric(config, descriptor) == "cosine"
    check_field(config, shapes, net)
    if part is not None:
        objects = shapes.object_samples
        step = 1 if config.training.device == "cpu" else config.evaluation.batch_size
        own = objects[part.of_items(len(objects), step)]
        shapes = shapes.select(np.sort(np.concatenate(own or objects[:1])))
    source = Watched(shapes, "embed") if progress else shapes
    found = Descriptors.of(net, source, state.digest, layer, poses=poses, unit=unit,
                           output="descriptor" if of_layer else "probabilities",
                           **rendering(config, shapes, net),
                           batch_size=config.evaluation.batch_size, workers=config.data.workers,
                           device=config.training.device)
    if part is None or own:
        return found
    nothing: dict[str, Any] = {name: getattr(found, name)[:0] for name in ("vectors", "labels", "names", "samples")}
    return replace(found, **nothing)  # one object has told how long the descriptors of an empty part are


def part_settings(state: Checkpoint, config: Config, shapes: SparseDataset, layer: int | None,
                  poses: str | Sequence[int], descriptor: str | None, part: Part) -> str:
    """A digest of all that the parts share which `embed_shapes` makes of these arguments: the weights, the config, the
    shapes and their files, and the number of parts."""
    from sparsenet.data.parts import settings_digest
    from sparsenet.data.several_files import dataset_paths

    files = [seal_of(path) for path in dataset_paths(shapes.path)]
    return settings_digest(state.digest, config.text(), shapes.digest, files, shapes.rows.tolist(), layer, poses,
                           descriptor, part.of)
