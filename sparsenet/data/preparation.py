"""Prepares the cells that a network sees from a stored sample: pose, augmentation, field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.data.voxel_augment import VoxelAugmentation
from sparsenet.random import keyed_rng

if TYPE_CHECKING:
    from sparsenet.data.dataset import SparseDataset
    from sparsenet.shapes import Augmentation

    AnyAugmentation = Augmentation | VoxelAugmentation


class Preparation:
    """Prepares the samples of one epoch, as a function of (seed, epoch, sample), and of the showing
    if a sampler shows a sample more than once.

    Raises
    ------
    ValueError, TypeError : by the constructor, if the dataset does not support the request.
    """

    def __init__(self, dataset: SparseDataset, augment: AnyAugmentation | None, field: int | Sequence[int] | None,
                 render_size: int | None, fill: bool | None, seed: int, epoch: int):
        self.dataset = dataset
        self.seed = seed
        self.epoch = epoch
        self.field = _field(field, dataset.spatial_size)
        if render_size is not None and not (isinstance(render_size, int | np.integer) and render_size >= 1):
            raise ValueError(f"batches: render_size is {render_size!r}, expected a positive whole number")
        self.render_size = dataset.render_size if render_size is None else int(render_size)
        self.fill = dataset.fill if fill is None else bool(fill)
        self.moves, self.cell_moves = _split(augment, len(dataset.spatial_size))
        self.shift_cells = 0.0
        if self.moves is not None and _moves_cells(self.moves, dataset):
            self.shift_cells, self.cell_moves = self.moves.shift * self.render_size, _symmetries(self.moves)
            self.moves = None
        requests = [word for word, asked in (
            (f"render_size {self.render_size} (stored: {dataset.render_size})",
             self.render_size != dataset.render_size),
            (f"fill={self.fill} (stored: {dataset.fill})", self.fill != dataset.fill),
            ("augmentation by rotation or affine map", self.moves is not None)) if asked]
        self.voxelizes = bool(requests)
        if requests and not dataset.has_meshes:
            raise ValueError(f"batches: {' and '.join(requests)} needs meshes, and {dataset.path} has none: make the "
                             "dataset with its meshes (--keep-meshes), or use its stored poses, shifts and "
                             "VoxelAugmentation")
        if requests and dataset.has_features:
            raise ValueError(f"batches: {' and '.join(requests)} makes new cells, and {dataset.path} stores features "
                             "for the old ones: create it without features")
        if requests and dataset.has_site_labels and not dataset.has_face_labels:
            raise ValueError(f"batches: {' and '.join(requests)} makes new cells, and {dataset.path} stores labels for "
                             "the old ones: create it with meshes that have face labels, or move whole cells: "
                             "VoxelAugmentation")

    def pose(self, samples: np.ndarray, showing: tuple[int, ...]) -> int:
        """One of an object's samples, drawn by (seed, epoch, object)."""
        if len(samples) == 1:
            return int(samples[0])
        number = int(self.dataset.object[samples[0]])
        return int(samples[keyed_rng(self.seed, self.epoch, "pose", number, *showing).integers(len(samples))])

    @property
    def from_meshes_alone(self) -> bool:
        """Whether preparing a sample means only voxelizing its mesh, which a GPU can do for many at once (if no site
        labels are asked for)."""
        return self.voxelizes and self.cell_moves is None

    def placement(self, sample: int, showing: tuple[int, ...]) -> tuple[np.ndarray | None, ...]:
        """Rotation, affine map and shift of a sample's mesh, as drawn by `__call__`."""
        return self._placement(self._rng(sample, showing))

    def __call__(self, sample: int, showing: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, int]:
        """Sorted cells (n, D) int32 in the field, features (n, C) float32, site labels (n,) or None, and the number of
        dropped cells."""
        rng = self._rng(sample, showing)
        if self.from_meshes_alone:
            return self._voxelize(sample, self.field, rng)
        cells, features, labels, sides, dropped = self._cells(sample, rng)
        shift = self._drawn_shift(len(sides), rng)
        if self.cell_moves is not None:
            cells, sides, own_shift = self.cell_moves.apply(cells, sides, rng)
            shift = shift + own_shift
        cells = cells + (shift + (np.array(self.field) - sides) // 2).astype(np.int32)  # the centre, then the shift
        if shift.any() or any(size < side for size, side in zip(self.field, sides, strict=True)):
            inside = ((cells >= 0) & (cells < np.array(self.field))).all(axis=1)
            dropped += int(len(cells) - inside.sum())
            cells, features, labels = _rows((cells, features, labels), inside)
        if self.cell_moves is not None:  # they change the order
            order = np.lexsort(cells.T[::-1])
            cells, features, labels = _rows((cells, features, labels), order)
        return cells, features, labels, dropped

    def _cells(self, sample: int, rng: np.random.Generator
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, tuple[int, ...], int]:
        """Cells, features, labels, the sides of their box and the number of dropped cells, voxelized or as stored."""
        if self.voxelizes:
            sides = (self.render_size,) * 3
            cells, features, labels, dropped = self._voxelize(sample, sides, rng)
            return cells, features, labels, sides, dropped
        return *self.dataset.voxels(sample), self.dataset.site_labels(sample), self.dataset.spatial_size, 0

    def _drawn_shift(self, dimension: int, rng: np.random.Generator) -> np.ndarray:
        """(D,) int64 cells, each uniform from -shift_cells to shift_cells."""
        if not self.shift_cells:
            return np.zeros(dimension, np.int64)
        return np.rint(self.shift_cells * rng.uniform(-1, 1, dimension)).astype(np.int64)

    def _voxelize(self, sample: int, field: tuple[int, ...], rng: np.random.Generator
                  ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, int]:
        from sparsenet.shapes import Off3DPicture

        picture = Off3DPicture(self.dataset.kept_mesh(sample), self.render_size)
        voxels = picture.voxelize(field, *self._placement(rng), self.fill)
        return (voxels.coordinates, voxels.features, voxels.labels if self.dataset.has_site_labels else None,
                voxels.dropped)

    def _placement(self, rng: np.random.Generator) -> tuple[np.ndarray | None, ...]:
        """Rotation, affine map and shift."""
        return (None,) * 3 if self.moves is None else self.moves.draw(rng, self.render_size)

    def _rng(self, sample: int, showing: tuple[int, ...]) -> np.random.Generator:
        return keyed_rng(self.seed, self.epoch, "augment", int(self.dataset.rows[sample]), *showing)


def _rows(arrays: Sequence[Any], chosen: np.ndarray) -> list[Any]:
    """The chosen rows of each array; None stays None."""
    return [None if array is None else array[chosen] for array in arrays]


def _split(augment: AnyAugmentation | None, dimension: int) -> tuple[Augmentation | None, VoxelAugmentation | None]:
    """The augmentation as a pair (of meshes, of cells); None for one that changes nothing."""
    from sparsenet.shapes import Augmentation

    if augment is None:
        return None, None
    if isinstance(augment, Augmentation):
        symmetries = augment.quarter_turns or augment.mirror
        if symmetries and dimension != 3:
            raise ValueError(f"batches: Augmentation turns and mirrors 3 dimensions, the dataset has {dimension}")
        changes = augment.rotation != "none" or augment.affine or augment.shift or symmetries
        return (augment if changes else None), None
    if isinstance(augment, VoxelAugmentation):
        if (augment.quarter_turns or augment.mirror) and dimension != 3:
            raise ValueError(f"batches: VoxelAugmentation turns and mirrors 3 dimensions, the dataset has {dimension}")
        return None, augment
    raise TypeError(f"batches: augment is {type(augment).__name__}, expected Augmentation or VoxelAugmentation")


def _moves_cells(moves: Augmentation, dataset: SparseDataset) -> bool:
    """Whether the augmentation moves whole cells: it neither rotates nor maps, and shifts only without meshes."""
    return moves.rotation == "none" and not moves.affine and not (moves.shift and dataset.has_meshes)


def _symmetries(moves: Augmentation) -> VoxelAugmentation | None:
    """Its quarter turns and mirror as an augmentation of cells."""
    if not (moves.quarter_turns or moves.mirror):
        return None
    return VoxelAugmentation(0, moves.quarter_turns, moves.mirror, moves.up_axis)


def _field(field: int | Sequence[int] | None, spatial_size: tuple[int, ...]) -> tuple[int, ...]:
    if field is None:
        return spatial_size
    dimension = len(spatial_size)
    sides = (int(field),) * dimension if isinstance(field, (int, np.integer)) else tuple(int(s) for s in field)
    if len(sides) != dimension or min(sides) < 1:
        raise ValueError(f"batches: field is {field}, expected one positive number or {dimension} of them")
    return sides
