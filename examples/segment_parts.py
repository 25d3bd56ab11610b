#!/usr/bin/env python3
"""Lesson 7: a U-Net labels the voxels of shapes that it has not seen: seat, leg, back, ...

    python examples/segment_parts.py --out parts
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import sparsenet as sn
from sparsenet.data import Sample
from sparsenet.random import keyed_rng
from sparsenet.shapes import CLASSES, Augmentation, Off3DPicture, parametric_mesh
from sparsenet.shapes.parametric import PARTS
from sparsenet.training import load_config, train

SHAPES = {"train": 600, "test": 40}  # of each class
SEED, RENDER_SIZE, FIELD, BINS = 7, 20, 32, 20
SETTINGS: list[str] = []  # overrides of the config


def turned_and_stretched(split: str, name: str, number: int) -> sn.shapes.Voxels:
    """The voxels of a random shape, turned by any angle about the vertical, and stretched."""
    rng = keyed_rng(SEED, split, name, number)
    mesh = parametric_mesh(name, rng, parts=True)  # each face has the number of its part
    rotation, affine, _ = Augmentation("upright", affine=0.2).draw(rng, RENDER_SIZE)
    return Off3DPicture(mesh, RENDER_SIZE).voxelize(FIELD, rotation, affine)


def samples() -> Iterator[Sample]:
    for split, count in SHAPES.items():
        for label, name in enumerate(CLASSES):
            for number in range(count):
                voxels = turned_and_stretched(split, name, number)
                yield Sample(voxels.coordinates, label, f"{split}/{name}/{number}", split, site_labels=voxels.labels)


def height_bins(cells: np.ndarray) -> np.ndarray:
    """For each cell of a shape, how high it lies in it: 0 to BINS - 1."""
    height = cells[:, 2] - cells[:, 2].min()
    return BINS * height // (height.max() + 1)


def labels_by_height(train_set: sn.SparseDataset, test_set: sn.SparseDataset) -> list[np.ndarray]:
    """The labels that a table gives, whose entry is the most frequent part of a class of shapes at a height.  Unlike
    the network, it is told the class."""
    table = np.zeros((len(CLASSES), BINS, len(PARTS)), int)
    for sample in train_set:
        np.add.at(table, (sample.label, height_bins(sample.coordinates), sample.site_labels), 1)
    return [table[sample.label, height_bins(sample.coordinates)].argmax(axis=1) for sample in test_set]


def main(out: Path) -> None:
    # 1. A dataset whose cells have labels: -1, or an index into part_classes.
    shapes = sn.SparseDataset.create(out / "shapes.h5", samples(), (FIELD,) * 3, RENDER_SIZE, list(CLASSES),
                                     part_classes=PARTS)
    train_set, test_set = shapes.subset("train"), shapes.subset("test")
    print(f"{len(train_set)} shapes for training, {len(test_set)} for testing, of parts: {', '.join(PARTS)}")

    # 2. What height alone tells.
    true = [sample.site_labels for sample in test_set]
    by_table = sn.segmentation.evaluate(labels_by_height(train_set, test_set), true, PARTS)
    print(f"\nA table of (class, height): mean IoU {100 * by_table.mIoU:.1f}%")

    # 3. The network gives a row of logits for each site.  Turns by quarters and mirror images move whole cells, and the
    #    labels with them.  The settings were chosen on a validation split of 1,000 other shapes; none is held out here.
    ours = ["data.parametric_train=0", "data.parametric_test=0", f"data.path={out / 'shapes.h5'}",
            "data.validation_share=0", "training.validate_every=0"]
    config = load_config("segmentation", [*ours, *SETTINGS])
    result = train(config, out / "run", overwrite=True, progress=False)
    net = result.net

    # 4. Its labels of shapes that it has not seen, in the order of the cells of each sample.
    predicted = net.predict_sites(test_set)
    found = sn.segmentation.evaluate(predicted, true, PARTS)
    print(f"\nThe network: mean IoU {100 * found.mIoU:.1f}%, of a table of (class, height) {100 * by_table.mIoU:.1f}%")

    # 5. Cells of one's own may come in any order; labels are brought back to it.
    voxels = turned_and_stretched("own", "chair", 0)
    cells = keyed_rng(0, "order").permutation(np.insert(voxels.coordinates, 0, 0, axis=1))  # [batch, x, y, z]
    x = sn.SparseTensor(np.ones((len(cells), 1), np.float32), cells, (FIELD,) * 3, batch_size=1)
    labels = x.in_given_order(net.predict_sites(x))
    counts = [f"{(labels == label).sum()} of its {PARTS[label]}" for label in np.unique(labels)]
    print(f"\nA chair of {len(cells)} voxels: {', '.join(counts)}")

    # 6. Figures: true parts above predicted ones, and which parts are mistaken for which.
    chosen = [int(np.flatnonzero(test_set.labels == CLASSES.index(name))[0])
              for name in ("bed", "chair", "lamp", "table")]
    drawn = [(test_set[i].coordinates, labels[i]) for labels in (true, predicted) for i in chosen]
    titles = [f"{CLASSES[test_set.labels[i]]}, {which}" for which in ("true", "predicted") for i in chosen]
    figures = {
        "parts.png": sn.inspect.labelled_voxels(drawn, PARTS, titles),
        "confusion.png": sn.inspect.confusion_matrix(np.concatenate(true), np.concatenate(predicted), PARTS),
    }
    for name, figure in figures.items():
        sn.inspect.save_figure(figure, out / name)
    print(f"Pictures in {out}: {', '.join(figures)}")
    shapes.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for files and pictures (default: a new temporary one)")
    folder = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="sparsenet-"))
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
