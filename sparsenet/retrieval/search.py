"""Searches for the shapes most similar to a mesh."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.retrieval.descriptors import Descriptors
from sparsenet.retrieval.embedding import embed
from sparsenet.sparse import SparseTensor
from sparsenet.wording import aligned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparsenet.data import SparseDataset
    from sparsenet.nn import SparseNetwork
    from sparsenet.retrieval.index_shards import Searchable


@dataclass(frozen=True)
class Found:
    """The k shapes nearest to a query, nearest first.  Prints as a table.

    query : name of the query;  cells : (n, 3) int32, its voxels;  dropped : number of its voxels outside the
        network's grid, which were left out
    distances : (k,) float64;  rows : (k,) int64, rows of `descriptors`
    """

    query: str
    cells: np.ndarray
    dropped: int
    distances: np.ndarray
    rows: np.ndarray
    descriptors: Descriptors

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        return self.descriptors.names[self.rows].tolist()

    @property
    def labels(self) -> list[str]:
        """Class names, "?" if unknown."""
        all_labels = self.descriptors.label_names()
        return [all_labels[row] for row in self.rows]

    def __str__(self) -> str:
        lines = zip(self.labels, self.names, self.distances, strict=True)
        rows = [(str(rank), label, name, f"{distance:.6f}") for rank, (label, name, distance) in enumerate(lines, 1)]
        text = aligned([("rank", "class", "name", "distance"), *rows], left=(1, 2), rules=())
        if not self.dropped:
            return text
        return (f"{self.query}: {self.dropped} of {self.dropped + len(self.cells)} voxels are outside the network's "
                f"grid and were dropped\n{text}")

    def picture(self, dataset: str | Path | None = None, label: str = "") -> Figure:
        """A figure (matplotlib) of the query's voxels beside those of the results.

        dataset : file from which the results' voxels are read; default: the one they were embedded from
        label : class of the query, if known; then results of the same class are marked as correct

        The results are drawn as they were embedded: if their render size is not the one stored in the
        dataset, their meshes are voxelized again.

        Raises
        ------
        FileNotFoundError, ValueError : the dataset's file does not exist, or is not the one embedded; the
            label is not a class.
        """
        from sparsenet.data import SparseDataset
        from sparsenet.inspect.gallery import Picture, gallery

        if label:
            self.descriptors.check_class(label)
        with SparseDataset.open(dataset or self.descriptors.dataset) as shapes:
            pictures = []
            for row, name, known, distance in zip(self.rows, self.names, self.labels, self.distances, strict=True):
                sample = int(self.descriptors.samples[row])
                if sample >= len(shapes) or shapes.names[sample] != name:
                    raise ValueError(f"picture: sample {sample} of {shapes.path} is not {name!r}: name the dataset "
                                     "from which the descriptors were made")
                pictures.append(Picture(self._cells(shapes, sample), name, "" if known == "?" else known, distance))
        return gallery(Picture(self.cells, self.query, label), pictures)

    def _cells(self, shapes: SparseDataset, sample: int) -> np.ndarray:
        """(n, 3) voxels of a sample at the render size at which it was embedded."""
        from sparsenet.shapes import Off3DPicture

        size, fill = self.descriptors.render_size, self.descriptors.fill
        if (shapes.render_size, shapes.fill) == (size, fill) or not shapes.has_meshes:
            return shapes.voxels(sample)[0]
        return Off3DPicture(shapes.mesh(sample), size).voxelize(size, fill=fill).coordinates


def find_similar(net: SparseNetwork, mesh: Any, descriptors: Descriptors, k: int = 10, metric: str = "cosine",
                 name: str = "query", index: Searchable | None = None) -> Found:
    """The k shapes whose descriptors are nearest to that of a mesh.

    Parameters
    ----------
    net : the network that made the descriptors
    mesh : a Mesh with the up axis of the shapes, or a file for `read_mesh`, which is rotated and voxelized in the
        same way as the shapes were
    k : 1 to the number of shapes;  metric : "cosine" or "l2";  name : name of the query, for the picture
    index : of the vectors of the descriptors, to search instead of these, by its own metric; one that is not exact may
        find fewer than k (`index_files.open_indices`)

    Raises
    ------
    ValueError, OSError : the mesh cannot be read, k is out of range, the descriptors do not match the network, or the
        index has another number of vectors.
    """
    from sparsenet.shapes import Voxelization

    if index is None:
        index = descriptors.index(metric)
    elif len(index) != len(descriptors):
        raise ValueError(f"find_similar: the index has {len(index)} vectors, the descriptors are {len(descriptors)}: "
                         "build it of these descriptors")
    field = net.field or (descriptors.render_size,) * 3
    treatment = Voxelization(descriptors.render_size, descriptors.fill, descriptors.up_axis)
    upright = treatment.read(mesh, None if isinstance(mesh, str | os.PathLike) else "z")
    voxels = treatment.voxelize(upright, field)
    coordinates = np.insert(voxels.coordinates, 0, 0, axis=1)
    weights = next(net.parameters())
    x = SparseTensor(voxels.features, coordinates, field, batch_size=1).to(weights.device, weights.dtype)
    query = embed(net, x, descriptors.layer or None, output=descriptors.output)
    (distances,), (rows,) = index.search(query, k)
    found = rows >= 0
    return Found(name, voxels.coordinates, voxels.dropped, distances[found], rows[found], descriptors)
