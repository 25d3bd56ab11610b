"""The files that `stored_files` mutates: one of each kind that the package reads, and how it is read whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from sparsenet.data import Sample, SparseDataset
from sparsenet.files import USER_BLOCK
from sparsenet.nn.weights_file import read_weights, write_weights
from sparsenet.retrieval import Descriptors, Index
from sparsenet.shapes import Mesh
from sparsenet.training import Checkpoint, load_checkpoint, save_checkpoint
from sparsenet.training.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass
class Kind:
    """original : the file, whole;  read : opens a file and reads all of it;  sealed : it states its sha256"""

    name: str
    original: Path
    read: Callable[[Path], object]
    sealed: bool


def write_dataset(path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = []
    for number in range(12):
        cells = np.unique(rng.integers(0, 9, (20, 3)), axis=0)
        mesh = Mesh(rng.normal(size=(8, 3)), rng.integers(0, 8, (12, 3)), rng.integers(-1, 3, 12))
        samples.append(Sample(cells, number % 3 - 1, f"object {number}", "test" if number % 2 else "train",
                              features=rng.normal(size=(len(cells), 2)), mesh=mesh,
                              site_labels=rng.integers(-1, 3, len(cells))))
    SparseDataset.create(path, samples, (9, 9, 9), 8, ["cup", "bed"], part_classes=["leg", "ear", "lid"]).close()


def write_unsealed_dataset(path: Path) -> None:
    write_dataset(path)
    path.write_bytes(path.read_bytes()[USER_BLOCK:])


def write_foreign_dataset(path: Path) -> None:
    """As another program would: h5py's defaults, texts of variable length, nothing packed."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "sparsenet-voxels", "version": 1, "spatial_size": [9, 9], "render_size": 9,
                           "classes": ["cup", "bed"]})
        for name, values in {
            "coordinates": np.array([[1, 2, 3, 1], [4, 5, 6, 0]], np.uint8), "row_splits": [0, 2, 3, 4],
            "labels": [0, 1, -1], "split": ["train", "test", "test"], "names": ["a", "żółw", ""], "object": [0, 1, 1],
            "pose": [0, 0, 1],
        }.items():
            file[name] = values


def write_checkpoint(path: Path) -> None:
    weights = {"convolution1.weight": np.arange(24, dtype=np.float32).reshape(8, 1, 3), "convolution1.bias": np.ones(3)}
    history = [{"epoch": 1.0, "loss": 0.5}, {"epoch": 2.0, "loss": 0.25, "accuracy": 0.5}]
    save_checkpoint(path, Checkpoint(weights, weights, 2, 2, 3.5, "[data]\npath = 'a.h5'\n", ["cup", "bed"],
                                     {"loss": 1.5}, history, "beef"))


def write_old_checkpoint(path: Path) -> None:
    """Version 1, which was not sealed."""
    write_checkpoint(path)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 1
    path.write_bytes(path.read_bytes()[USER_BLOCK:])


def write_weights_file(path: Path) -> None:
    write_weights(path, {"convolution1.weight": np.arange(24, dtype=np.float32), "convolution1.bias": np.ones(3)})


def write_descriptors(path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 5))
    Descriptors(vectors, [0, 1, -1, 0, 1, 1], list("abcdef"), ["cup", "bed"], "beef", 17, "a.h5").save(path)


def write_index(path: Path) -> None:
    index = Index("l2")
    index.add(np.random.default_rng(0).normal(size=(6, 5)))
    index.save(path)


def write_config(path: Path) -> None:
    path.write_bytes(b"\n".join(file.read_bytes() for file in [CONFIGS / "modelnet40_triplet.toml"]))


def read_dataset(path: Path) -> None:
    with SparseDataset.open(path) as dataset:
        for sample in dataset:
            len(sample)
        str(dataset), dataset.digest, dataset.object_labels


KINDS = {
    "dataset": (write_dataset, read_dataset, True),
    "unsealed dataset": (write_unsealed_dataset, read_dataset, False),
    "foreign dataset": (write_foreign_dataset, read_dataset, False),
    "checkpoint": (write_checkpoint, load_checkpoint, True),
    "checkpoint, version 1": (write_old_checkpoint, load_checkpoint, False),
    "weights": (write_weights_file, read_weights, True),
    "descriptors": (write_descriptors, Descriptors.load, True),
    "index": (write_index, Index.load, True),
    "config": (write_config, load_config, False),
}


def make(folder: Path, names: list[str]) -> list[Kind]:
    """Write the originals into the folder."""
    kinds = []
    for name in names:
        write, read, sealed = KINDS[name]
        original = folder / f"{name.replace(' ', '_')}.{'toml' if name == 'config' else 'h5'}"
        write(original)
        read(original)
        kinds.append(Kind(name, original, read, sealed))
    return kinds
