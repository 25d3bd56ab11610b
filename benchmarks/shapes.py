"""The shapes on which networks are measured: the Princeton Shape Benchmark, ModelNet40, or built-in ones.

Real shapes come from the folder SPARSENET_DATA; without it the parametric shapes are used, and figures
name their source.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.carried import MESHES
from sparsenet.data import SparseBatch, SparseDataset
from sparsenet.data.convert import Conversion, MeshEntry, convert_meshes
from sparsenet.data.importers import import_parametric
from sparsenet.data.sample import Sample
from sparsenet.shapes import Mesh

FIELD = 126
_MODELNET_SIDE = 30
_MODELNET_SHARD = "modelnet40_voxels30/test.npz"


class Shapes:
    """Datasets in a temporary folder; use as a context manager.

    count : number of shapes of each
    carried : folder that may contain packed shapes (see `carried`), which are preferred
    meshes : SparseDataset with meshes;  source : name of their source
    """

    def __init__(self, count: int, note: Callable[[str], None], carried: Path | None = None):
        self.count = count
        self._folder = tempfile.TemporaryDirectory()
        self._root = Path(os.environ.get("SPARSENET_DATA") or "/nowhere")
        path = Path(self._folder.name) / "meshes.h5"
        if carried is not None and (carried / MESHES).is_file():
            path, self.source = carried / MESHES, "PSB"
        elif (self._root / "psb" / "train.cla").is_file():
            self.source = "PSB"
            import_psb(self._root / "psb", path, count)
        else:
            self.source = "parametric shapes"
            note("PSB left out: not found in SPARSENET_DATA: parametric shapes instead")
            import_parametric(path, {"train": -(-count // 10)}, conversion=Conversion(40, keep_meshes=True,
                                                                                      progress=False))
        self.meshes = SparseDataset.open(path)

    def batch(self, size: int, render_size: int, **options: object) -> SparseBatch:
        """The first batch of this many shapes, without rulebooks unless `geometries` are given."""
        with self.meshes.batches(size, field=FIELD, render_size=render_size, **options) as batches:
            return next(batches)

    def mesh_list(self, count: int) -> list[Mesh]:
        return [self.meshes.mesh(index) for index in range(min(count, len(self.meshes)))]

    def modelnet40(self, note: Callable[[str], None]) -> SparseDataset | None:
        """ModelNet40's 30^3 voxels, one pose of `count` objects; None if the data is missing."""
        archive = self._root / _MODELNET_SHARD
        if not archive.is_file():
            note(f"ModelNet40 left out: SPARSENET_DATA has no {_MODELNET_SHARD}")
            return None
        with np.load(archive) as stored:
            packed, labels, classes = stored["vox_packed"], stored["label"], stored["classes"]
        chosen = np.linspace(0, len(packed) - 1, self.count).astype(int)
        samples = (Sample(_unpack(packed[i, 0]), int(labels[i]), f"object{i}") for i in chosen)
        path = Path(self._folder.name) / "modelnet40.h5"
        names = [str(name) for name in classes]
        return SparseDataset.create(path, samples, (_MODELNET_SIDE,) * 3, 24, names, fill=True)

    def __enter__(self) -> Shapes:
        return self

    def __exit__(self, *error: object) -> None:
        self.meshes.close()
        self._folder.cleanup()


def _unpack(bits: np.ndarray) -> np.ndarray:
    return np.argwhere(np.unpackbits(bits)[:_MODELNET_SIDE**3].reshape((_MODELNET_SIDE,) * 3)).astype(np.int32)


def import_psb(folder: Path, destination: Path, count: int) -> None:
    """`count` meshes drawn from the training classes."""
    from sparsenet.data.psb import read_cla
    from sparsenet.shapes import read_mesh

    held = [one for one in read_cla(folder / "train.cla") if one.models]
    listed = [(label, model) for label, one in enumerate(held) for model in one.models]
    chosen = np.random.default_rng(6).permutation(len(listed))[:count]
    entries: Iterable[MeshEntry] = [
        MeshEntry(partial(read_mesh, path), f"m{model}", label, "train", str(path))
        for label, model in (listed[i] for i in chosen)
        for path in [folder / "meshes" / f"m{model}.off"]]
    convert_meshes(list(entries), destination, [one.name for one in held],
                   Conversion(40, keep_meshes=True, progress=False))
