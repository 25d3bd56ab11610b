"""Batches on the device "cuda": the very same as on a CPU, meshes voxelized there, nothing uploaded twice.

CUDA sources run on the host, with arrays in place of CuPy's; with a GPU, on it too.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext

import numpy as np
import pytest
from cuda_host import cupy_of_numpy, device

from sparsenet import backend
from sparsenet.backend import to_device
from sparsenet.data import BatchSampler, SparseDataset, TripletSampler, VoxelAugmentation, loader, mesh_store
from sparsenet.data.reader import DatasetReader
from sparsenet.kernels import counting
from sparsenet.kernels.cuda.streams import SideStream
from sparsenet.kernels.voxels import MeshFault
from sparsenet.shapes import Augmentation
from sparsenet.sparse import Geometry

GEOMETRIES = [Geometry.make(3, 2), Geometry.make(3, 3, 2)]


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("sparsenet-loader")]


@pytest.fixture(params=["host", *([] if device.missing() else [pytest.param("gpu", marks=pytest.mark.gpu)])],
                autouse=True)
def cuda(request):
    on_gpu = request.param == "gpu"
    with nullcontext() if on_gpu else cupy_of_numpy.installed(request.getfixturevalue("host_driver")):
        yield


def contents(batches, where: str) -> list[tuple]:
    """Everything of the batches that could differ, as bytes, with the rulebooks."""
    found = []
    for batch in batches:
        assert batch.input.device == where and isinstance(batch.dropped, np.ndarray)
        sites = batch.input.sites
        arrays = [sites.coordinates, batch.input.features.array, sites.keys]
        for geometry in GEOMETRIES:
            rulebook = sites.rulebook(geometry)
            assert "neighbours" in vars(rulebook)
            arrays.append(rulebook.neighbours)
            sites = rulebook.output_sites
        found.append(([to_device(array, "cpu").tobytes() for array in arrays], batch.labels.tolist(),
                      batch.sample_ids.tolist(), batch.dropped.tolist(), set(batch.seconds)))
    return found


def both(dataset: SparseDataset, workers: int = 0, **options) -> tuple[list, list]:
    given = {"batch_size": 4, "shuffle": True, "epoch": 1, "geometries": GEOMETRIES, "workers": workers, **options}
    return tuple(contents(dataset.batches(**given, device=where), where) for where in ("cpu", "cuda"))


@pytest.mark.parametrize("options", [
    {"augment": Augmentation("so3"), "field": 20, "render_size": 12},
    {"augment": Augmentation("upright", shift=0.8), "field": 12},  # cells are dropped
    {"fill": True, "field": 14, "render_size": 9},
    {"augment": VoxelAugmentation(quarter_turns=True), "render_size": 8, "field": 16},  # cells move: by the CPU
], ids=["turned", "shifted", "solid", "voxel augmentation"])
@pytest.mark.parametrize("workers", [0, 2])
def test_meshes_become_the_same_cells(meshes: SparseDataset, options, workers):
    expected, found = both(meshes, workers, **options)
    assert found == expected
    assert loader_threads() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_stored_voxels_are_the_same(voxels: SparseDataset, workers):
    expected, found = both(voxels, workers, batch_size=5, field=10)
    assert found == expected


def test_one_thread_asks_a_gpu_for_batches_however_many_are_made_ahead(meshes: SparseDataset, monkeypatch):
    made, ready = [], threading.Event()
    plain = loader._BatchMaker.make

    def make(maker, index, stop):
        batch = plain(maker, index, stop)
        made.append((index, threading.current_thread()))
        if len(made) == 3:
            ready.set()
        return batch

    monkeypatch.setattr(loader._BatchMaker, "make", make)
    with meshes.batches(2, workers=3, augment=Augmentation("so3"), device="cuda") as batches:
        next(batches)
        assert ready.wait(60)  # two more, which nobody has asked for
    assert [index for index, _ in made] == [0, 1, 2] and len({thread for _, thread in made}) == 1


def test_samples_shown_more_than_once_are_rotated_each_time(meshes: SparseDataset):
    options = {"sampler": TripletSampler(meshes.object_labels, 2, 2), "augment": Augmentation("so3", 0, 0)}
    expected, found = both(meshes, batch_size=None, shuffle=False, **options)
    assert found == expected


def test_meshes_stay_on_the_device(meshes: SparseDataset, monkeypatch):
    read, asked = DatasetReader.mesh, []
    monkeypatch.setattr(DatasetReader, "mesh", lambda self, row: asked.append(row) or read(self, row))
    for epoch in range(3):
        assert len(list(meshes.batches(4, epoch=epoch, augment=Augmentation("so3"), device="cuda"))) == 2
    assert sorted(asked) == list(range(6))
    with backend_uploads(monkeypatch) as uploads:
        list(meshes.batches(4, augment=Augmentation("so3"), device="cuda"))
    assert max(uploads) < 4 * 21 * 8 + 1  # placements and splits, no vertices


class backend_uploads:
    """Bytes of each array that goes to the device."""

    def __init__(self, monkeypatch):
        self.monkeypatch, self.sizes = monkeypatch, []

    def __enter__(self) -> list[int]:
        plain = backend.to_device

        def watched(array, where):
            if where == "cuda" and isinstance(array, np.ndarray) and backend.device_of(array) == "cpu":
                self.sizes.append(array.nbytes)
            return plain(array, where)

        self.monkeypatch.setattr("sparsenet.shapes.batch.to_device", watched)
        return self.sizes

    def __exit__(self, *error: object) -> None:
        self.monkeypatch.undo()


def test_a_batch_of_meshes_waits_for_the_device_once_and_once_more_for_each_filter(meshes: SparseDataset):
    batches = meshes.batches(6, augment=Augmentation("so3"), geometries=GEOMETRIES, device="cuda")
    with counting() as counts:
        next(batches)
    assert counts.waits == 1 + len(GEOMETRIES)
    assert counts.launches["place_meshes"] == 1


def test_a_mesh_that_cannot_be_voxelized_is_named(meshes: SparseDataset, monkeypatch):
    def fail(*arguments, **options):
        raise MeshFault(2, "it is too large")

    monkeypatch.setattr("sparsenet.shapes.MeshBatch.voxelize", fail)
    with pytest.raises(RuntimeError, match="sample 2 .'box2', row 2 of .*: it is too large"):
        list(meshes.batches(6, render_size=12, device="cuda", workers=1))
    assert loader_threads() == []


def test_a_mesh_that_cannot_be_read_is_named(meshes: SparseDataset, monkeypatch):
    def fail(self, index):
        raise OSError("disk on fire")

    monkeypatch.setattr(SparseDataset, "mesh_on_gpu", fail)
    with pytest.raises(RuntimeError, match="sample 0 .'box0', row 0 of .*: disk on fire"):
        list(meshes.batches(6, render_size=12, device="cuda"))


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_out_of_memory_names_the_loader(meshes: SparseDataset, monkeypatch, where):
    def fail(*arguments):
        raise MemoryError("Out of memory allocating 1,024 bytes")

    monkeypatch.setattr("sparsenet.data.loader._build_rulebooks", fail)
    with pytest.raises(MemoryError, match="1,024 bytes") as caught:
        list(meshes.batches(sampler=BatchSampler(6, 4), render_size=12, device=where, workers=1))
    assert caught.value.__notes__ == [f"in the loader, making batch 0 of 4 samples on {where}"]


def test_workers_make_batches_beside_the_consumers_stream(meshes: SparseDataset, monkeypatch):
    delivered, met = [], []
    deliver, meet = SideStream.deliver, SideStream.meet
    monkeypatch.setattr(SideStream, "deliver", lambda self, work: delivered.append(work) or deliver(self, work))
    monkeypatch.setattr(SideStream, "meet", lambda self: met.append(self) or meet(self))
    list(meshes.batches(2, render_size=12, device="cuda", workers=1))
    assert len(delivered) == 3 and all(work.made is not None and work.delivered for work in delivered)
    assert len(met) == 2  # as the epoch begins, and as it ends
    list(meshes.batches(2, render_size=12, device="cuda"))  # the consumer itself, on its own stream
    assert len(delivered) == 3


def test_batches_stay_whole_while_the_next_are_made(meshes: SparseDataset):
    """Each batch is dropped before the consumer's stream, which lags behind, has read it."""
    xp, rounds = backend.cupy(), 4
    slow = xp.ones((512, 512), np.float32)
    sums, expected = [], []
    for epoch in range(rounds):
        options = {"batch_size": 1, "shuffle": True, "epoch": epoch, "augment": Augmentation("so3"), "field": 30,
                   "render_size": 24, "geometries": GEOMETRIES}
        for batch in meshes.batches(**options, workers=2, device="cuda"):
            for _ in range(3):
                xp.matmul(slow, slow)
            sites = batch.input.sites
            del batch
            rulebook = sites.rulebook(GEOMETRIES[0])
            sums.append([sites.keys.sum(), rulebook.neighbours.sum(), rulebook.output_sites.keys.sum()])
            del sites, rulebook
        for batch in meshes.batches(**options):
            rulebook = batch.input.sites.rulebook(GEOMETRIES[0])
            expected.append([batch.input.sites.keys.sum(), rulebook.neighbours.sum(), rulebook.output_sites.keys.sum()])
    assert [[int(number) for number in row] for row in sums] == expected


def test_what_does_not_fit_is_read_again():
    read = []

    def mesh(row: int):
        read.append(row)
        return type("Two", (), {"vertices": np.zeros((2, 3)), "faces": np.zeros((1, 3), np.int32)})

    store = mesh_store.MeshStore(mesh, max_bytes=130)  # 60 bytes each
    for _ in range(2):
        for row in range(3):
            store[row]
    assert read == [0, 1, 2, 2] and len(store) == 2 and store.kept_bytes == 120


def test_what_is_kept_on_the_gpu_is_given_to_any_stream():
    given = []

    def share(mesh):
        return lambda: given.append(mesh) or mesh

    two = type("Two", (), {"vertices": np.zeros((2, 3)), "faces": np.zeros((1, 3), np.int32)})
    store = mesh_store.MeshStore(lambda row: two, 60, share)
    assert store[0] is two and given == []  # the asker has made it himself
    assert store[0] is two and given == [two]
