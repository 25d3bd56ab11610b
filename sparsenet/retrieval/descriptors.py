"""Descriptors with their labels and names, and the file format for them.

    attributes  format "sparsenet-descriptors", version, checkpoint (sha256 of the weights), layer, output
                ("descriptor" or "probabilities"), dataset (path of the file), render_size, fill
    vectors (S, C) float32, labels (S,) int64, names (S,) text, samples (S,) int64, classes (K,) text
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.data.parts import Part, check_complete
from sparsenet.files import read_hdf5, write_hdf5
from sparsenet.retrieval.distances import check_matrix, check_metric
from sparsenet.retrieval.embedding import OUTPUTS, checked_layer, embed
from sparsenet.retrieval.index import Index
from sparsenet.retrieval.stored import checked
from sparsenet.wording import did_you_mean

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.nn import SparseNetwork

FORMAT, VERSION = "sparsenet-descriptors", 1


@dataclass
class Descriptors:
    """The descriptors of S shapes.  Raises TypeError or ValueError if the arrays do not match, or if a vector has NaN,
    infinity or values beyond float32; the message names its row.

    vectors : (S, C) float32; a memory-mapped array of float32 is kept as it is, others are copied
    labels : (S,) int64, index into classes, -1 if unknown
    names : (S,) text
    classes : the class names
    checkpoint : sha256 of the network's weights, "" if unknown
    layer : number of the layer whose output they are, 0 if unknown
    output : "descriptor", or "probabilities" if they are a classifier's class probabilities (layer is then 0)
    samples : (S,) int64, each shape's sample in the file `dataset`; default 0, 1, ...
    render_size, fill : how the shapes were voxelized, so that queries can be voxelized in the same way
    up_axis : up axis of their files, see `SparseDataset.up_axis`
    """

    vectors: np.ndarray
    labels: np.ndarray
    names: np.ndarray
    classes: list[str] = field(default_factory=list)
    checkpoint: str = ""
    layer: int = 0
    dataset: str = ""
    samples: np.ndarray | None = None
    render_size: int = 40
    fill: bool = False
    up_axis: str = "z"
    output: str = "descriptor"

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ValueError(f"Descriptors: output is {self.output!r}, expected one of {', '.join(OUTPUTS)}")
        self._indices: dict[str, Index] = {}  # by metric
        self.vectors = _single(self.vectors)
        self.labels = _whole_numbers("labels", self.labels)
        self.names = np.asarray(self.names, np.str_)
        self.classes = list(self.classes)
        self.samples = np.arange(len(self)) if self.samples is None else _whole_numbers("samples", self.samples)
        for name in ("labels", "names", "samples"):
            if (shape := getattr(self, name).shape) != (len(self),):
                raise ValueError(f"Descriptors: {name} have shape {shape}, expected ({len(self)},): one for each "
                                 "vector")
        if len(self) and not (-1 <= self.labels.min() and self.labels.max() < len(self.classes)):
            raise ValueError(f"Descriptors: labels go from {self.labels.min()} to {self.labels.max()}, expected -1 to "
                             f"{len(self.classes) - 1}, an index into the classes")

    def __len__(self) -> int:
        return len(self.vectors)

    @classmethod
    def of(cls, net: SparseNetwork, dataset: SparseDataset, checkpoint: str = "", layer: int | None = None,
           render_size: int | None = None, fill: bool | None = None, output: str = "descriptor",
           **options: Any) -> Descriptors:
        """Embed a dataset (arguments as for `embed` and `dataset.batches`), with its labels, names and settings."""
        if output == "descriptor":
            layer = checked_layer(net, layer)
        vectors = embed(net, dataset, layer, render_size=render_size, fill=fill, output=output, **options)
        first = np.arange(len(dataset)) if options.get("poses") == "all" else dataset.first_poses
        return cls(vectors, dataset.labels[first], dataset.names[first], dataset.classes, checkpoint, layer or 0,
                   str(Path(dataset.path).resolve()), dataset.rows[first],
                   dataset.render_size if render_size is None else render_size,
                   dataset.fill if fill is None else fill, dataset.up_axis, output)

    def index(self, metric: str = "cosine") -> Index:
        """An Index of the vectors, built on the first call for a metric, and again if the vectors change."""
        check_metric("Descriptors.index", metric)
        index = self._indices.get(metric)
        if index is None or not (index.vectors is self.vectors or np.array_equal(index.vectors, self.vectors)):
            index = Index(metric)
            index.add(self.vectors)
            self._indices[metric] = index
        return index

    def to_faiss(self, metric: str = "cosine") -> Any:
        """A FAISS index of the vectors in float32, whose ids are their rows: for searches of millions, for its other
        kinds of index, or for a server that has FAISS already.  Its results may differ from `index` by rounding and in
        the order of ties.

        metric : "cosine": inner products of unit vectors, the cosines, the greatest first; queries are divided by their
            norms, too.  "l2": SQUARED Euclidean distances, the least first

        The index takes `search`, `range_search`, `add_with_ids` and `remove_ids`; `faiss.write_index` saves it.

        Raises
        ------
        RuntimeError : faiss is not installed: pip install 'sparsenet[faiss]'.
        TypeError, ValueError : an unknown metric.
        """
        check_metric("Descriptors.to_faiss", metric)
        try:
            import faiss
        except ModuleNotFoundError:
            raise RuntimeError("Descriptors.to_faiss: it needs faiss, which is not installed: "
                               "pip install 'sparsenet[faiss]'") from None

        width = self.vectors.shape[1]
        index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(width) if metric == "cosine" else faiss.IndexFlatL2(width))
        if metric == "cosine":
            index = faiss.IndexPreTransform(faiss.NormalizationTransform(width, 2.0), index)
        if len(self):
            index.add_with_ids(np.ascontiguousarray(self.vectors), np.arange(len(self)))
        return index

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_indices": {}}  # a copy builds its own indices

    def label_names(self) -> list[str]:
        """(S,) class names; "?" if the label is unknown."""
        return [self.classes[label] if label >= 0 else "?" for label in self.labels]

    def check_class(self, name: str) -> None:
        """Raise ValueError, suggesting a similar name, if `name` is not a class."""
        if name not in self.classes:
            raise ValueError(f"{name!r} is not one of the {len(self.classes)} classes of the descriptors"
                             f"{did_you_mean(name, self.classes)}")

    def save(self, path: str | Path, part: Part | None = None, settings: str = "") -> None:
        """Write an HDF5 file atomically: after a crash the old one remains.

        part, settings : which part of a file these descriptors are, and a digest of what all parts share, for `joined`
            and `part_of`
        """
        attributes = {name: getattr(self, name)
                      for name in ("checkpoint", "layer", "output", "dataset", "render_size", "fill", "up_axis")}
        arrays = {name: getattr(self, name) for name in ("vectors", "labels", "samples", "names")}
        if part is not None:
            attributes |= {"part": part.number, "parts": part.of, "settings": settings}
        write_hdf5(path, FORMAT, VERSION, attributes, arrays | {"classes": np.array(self.classes, object)})

    @classmethod
    def part_of(cls, path: str | Path, part: Part, settings: str) -> Descriptors | None:
        """The part in a file, if it is there.

        Raises ValueError if the file is something else, or a part that was made with other settings.
        """
        if not Path(path).exists():
            return None
        file = read_hdf5(path, {FORMAT: VERSION}, only=())
        stated = [file.attribute(name, kind, kind()) for name, kind in (("part", int), ("parts", int),
                                                                        ("settings", str))]
        if stated != [part.number, part.of, settings]:
            raise ValueError(f"{path}: is not part {part} of these descriptors, or was made with other weights, "
                             "settings or shapes: remove it, or name another output")
        return cls.load(path)

    @classmethod
    def joined(cls, paths: Sequence[str | Path]) -> Descriptors:
        """The descriptors whose parts these files are, in any order.

        Raises
        ------
        FileNotFoundError, ValueError : a file is missing, damaged or no part; a part is missing or given twice; they
            were made by different networks, settings or datasets.
        """
        found, settings = {}, {}
        for path in map(Path, paths):
            file = read_hdf5(path, {FORMAT: VERSION}, only=())
            if not file.attribute("part", int, 0):
                raise ValueError(f"join: {path} has whole descriptors, expected parts that --part made")
            found[path] = Part(file.attribute("part", int), file.attribute("parts", int))
            settings[path] = file.attribute("settings", str, "")
        check_complete([(part, path) for path, part in found.items()])
        order = sorted(found, key=lambda path: found[path].number)
        first, *others = parts = [cls.load(path) for path in order]
        for path, other in zip(order[1:], others, strict=True):
            for name in ("checkpoint", "layer", "output", "dataset", "render_size", "fill", "up_axis", "classes"):
                if getattr(other, name) != getattr(first, name):
                    raise ValueError(f"join: the {name} of {path} is {getattr(other, name)!r}, that of {order[0]} "
                                     f"{getattr(first, name)!r}: make all parts with one command")
            if settings[path] != settings[order[0]]:
                raise ValueError(f"join: {path} was made with other settings, or from other shapes, than {order[0]}: "
                                 "make all parts with one command")
        arrays = {name: np.concatenate([getattr(one, name) for one in parts])
                  for name in ("vectors", "labels", "names", "samples")}
        return replace(first, **arrays)

    @classmethod
    def load(cls, path: str | Path, memory_map: bool = False) -> Descriptors:
        """Read descriptors written by `save`.

        memory_map : leave the vectors in the file, which must stay as it is

        Raises
        ------
        FileNotFoundError, ValueError : no such file; not a complete descriptor file.
        """
        found = read_hdf5(path, {FORMAT: VERSION}, mapped=("vectors",) if memory_map else ())
        arguments = dict(
            vectors=found.array("vectors", "fiu", 2), labels=found.array("labels", "iu", 1), names=found.texts("names"),
            classes=found.texts("classes"), checkpoint=found.attribute("checkpoint", str),
            layer=found.attribute("layer", int), dataset=found.attribute("dataset", str),
            samples=found.array("samples", "iu", 1), render_size=found.attribute("render_size", int),
            fill=found.attribute("fill", bool),
            up_axis=found.attribute("up_axis", str, "z"), output=found.attribute("output", str, "descriptor"))
        try:
            return cls(**arguments)
        except ValueError as error:
            raise ValueError(f"Descriptors.load: {path}: {error}") from error


def open_vectors(path: str | os.PathLike) -> np.ndarray:
    """The vectors (N, C) of a descriptor file, or of a NumPy file (.npy), memory-mapped.

    Raises
    ------
    FileNotFoundError, ValueError : no such file; it is not a complete descriptor file, or not an array (N, C) of real
        numbers.
    """
    if Path(path).suffix != ".npy":
        return read_hdf5(path, {FORMAT: VERSION}, mapped=("vectors",), only=("vectors",)).array("vectors", "f", 2)
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not an array of numbers in NumPy's format ({error})") from None
    check_matrix("open_vectors", str(path), found)
    return found


def read_checkpoint(path: str | os.PathLike) -> str:
    """sha256 of the weights of the network that made the vectors of a file for `open_vectors`; "" if unknown."""
    if Path(path).suffix == ".npy":
        return ""
    return read_hdf5(path, {FORMAT: VERSION}, only=()).attribute("checkpoint", str)


def _single(vectors: Any) -> np.ndarray:
    """(S, C) float32.  Raises ValueError if a number is too large."""
    vectors = checked("Descriptors", "vectors", vectors)
    if vectors.dtype == np.float32:
        return vectors
    with np.errstate(over="ignore"):
        single = vectors.astype(np.float32)
    if not (finite := np.isfinite(single).all(axis=1)).all():
        raise ValueError(f"Descriptors: vectors exceed float32 in {np.sum(~finite)} of {len(single)} "
                         f"rows, first in row {np.argmin(finite)}: has the training diverged?")
    return single


def _whole_numbers(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"Descriptors: {name} have dtype {array.dtype}, expected integers")
    if array.size and array.max() >= 2**63:
        raise ValueError(f"Descriptors: {name} go to {array.max()}, expected numbers below 2^63")
    return array.astype(np.int64)
