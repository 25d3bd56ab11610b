"""The class of a mesh, by a trained network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.autograd import no_grad
from sparsenet.nn.prediction import output_rows
from sparsenet.sparse import SparseTensor
from sparsenet.wording import aligned

if TYPE_CHECKING:
    from sparsenet.nn import SparseNetwork

UNKNOWN = "unknown"
# Rotations that bring each of the six directions of the axes up, onto z
_UPWARD = {
    "z": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "-z": [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
    "y": [[1, 0, 0], [0, 0, -1], [0, 1, 0]], "-y": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
    "x": [[0, 0, -1], [0, 1, 0], [1, 0, 0]], "-x": [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],
}


@dataclass(frozen=True)
class Classification:
    """The classes of a mesh, the most probable first.  Prints as a table of the first five.

    classes : names of all classes;  probabilities : float64, in the same order, which add up to 1
    up_axis : if it was unknown, the direction that the network took to be up, "x" to "-z"; otherwise as given
    dropped : number of the mesh's voxels outside the network's grid, which were left out
    """

    classes: list[str]
    probabilities: np.ndarray
    up_axis: str
    dropped: int = 0

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.classes[0]

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return float(self.probabilities[0])

    def __str__(self) -> str:
        rows = [(name, f"{p:.1%}") for name, p in zip(self.classes[:5], self.probabilities[:5], strict=True)]
        return aligned([("class", "probability"), *rows], left=(0,), rules=())


def classify(net: SparseNetwork, mesh: str | os.PathLike | Any, up_axis: str | None = None, turns: int | None = None
             ) -> Classification:
    """The classes of a mesh, by the mean of the network's class probabilities over poses about the vertical.

    Parameters
    ----------
    net : a classifier that knows its `classes` and its `voxelization`, such as `load_pretrained` returns; it runs in
        evaluation mode, and its mode is restored
    mesh : a mesh file, or anything that has `vertices` (V, 3) and `faces` (F, 3); it is scaled, filled and centred as
        the shapes of the training were
    up_axis : the axis along which the mesh stands, "y" or "z"; "auto": by the file's format; "unknown": each of the
        six directions is tried, and the one taken whose most probable class is the most probable; default: as for the
        training's meshes
    turns : number of poses; default: the network's

    Raises
    ------
    TypeError : net is not a network, or mesh is something else.
    ValueError : the network is not a classifier or does not know its classes and voxelization; another axis; turns is
        below 1.
    MeshError, OSError : the mesh cannot be used.
    """
    check_network("classify", net)
    if net.classes is None or net.voxelization is None:
        missing = "classes" if net.classes is None else "voxelization"
        raise ValueError(f"classify: the network does not know its {missing}: load it from a checkpoint, "
                         "sn.load_pretrained(path)")
    if not classifies(net):
        raise ValueError(f"classify: the network gives {net.out_channels} numbers that are not probabilities of its "
                         f"{len(net.classes)} classes: it was trained for descriptors alone")
    treatment = net.voxelization
    tried = list(_UPWARD) if up_axis == UNKNOWN else ["z"]
    upright = treatment.read(mesh, "z" if up_axis == UNKNOWN else up_axis)
    poses = treatment.rotations(turns)
    voxels = [treatment.voxelize(upright, net.field, pose @ np.array(_UPWARD[axis], np.float64))
              for axis in tried for pose in poses]
    rows = _probabilities(net, [one.coordinates for one in voxels]).reshape(len(tried), len(poses), -1).mean(axis=1)
    best = int(rows.max(axis=1).argmax())
    order = np.argsort(-rows[best], kind="stable")
    dropped = max(one.dropped for one in voxels[best * len(poses):(best + 1) * len(poses)])
    found = tried[best] if up_axis == UNKNOWN else treatment.up_axis if up_axis is None else up_axis
    return Classification([net.classes[k] for k in order], rows[best][order], found, dropped)


def check_network(operation: str, net: Any) -> None:
    """Raise TypeError, which says how to load one, unless `net` is a network."""
    if not hasattr(net, "voxelization"):
        named = repr(os.fspath(net)) if isinstance(net, str | os.PathLike) else ""
        raise TypeError(f"{operation}: net is {type(net).__name__}, expected a network, such as "
                        f"sn.load_pretrained({named})")


def classifies(net: SparseNetwork) -> bool:
    """Whether the network's outputs are the logits of classes that it knows."""
    return bool(net.classes) and net.out_channels == len(net.classes or ()) and (
        net.layers[-1].kind in ("linear", "cosine_linear"))


def _probabilities(net: SparseNetwork, cells: list[np.ndarray]) -> np.ndarray:
    """(B, classes) float64, one row for each set of cells."""
    coordinates = np.concatenate([np.insert(one, 0, b, axis=1) for b, one in enumerate(cells)])
    weights = next(net.parameters())
    features = np.ones((len(coordinates), 1), np.float32)
    x = SparseTensor(features, coordinates, net.field, len(cells)).to(weights.device, weights.dtype)
    with no_grad(), net.evaluating():
        return output_rows(net, x, True, operation="classify")
