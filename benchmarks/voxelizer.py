"""The voxelizer: meshes per second."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks import reference
from benchmarks.figures import Results
from benchmarks.shapes import FIELD, Shapes
from benchmarks.timing import Case, Settings, case, interleave
from sparsenet.backend import to_device
from sparsenet.kernels import get_num_threads
from sparsenet.kernels.cpu.threads import serial
from sparsenet.random import keyed_rng
from sparsenet.shapes import Mesh, MeshBatch
from sparsenet.shapes.augment import Augmentation
from sparsenet.shapes.voxelization import place, voxelize

SECTION = "voxelizer"
_SMALL = 12  # cells


def measure_voxelizer(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Add the section: meshes per second with one thread and with the number of loader workers; on a GPU, for a whole
    batch."""
    meshes = shapes.mesh_list(8 if settings.quick else 128)
    _verify(min(meshes, key=lambda mesh: len(mesh.faces)))
    augmentation = Augmentation(rotation="so3", affine=0.2, shift=0.2)
    cases: dict[str, Case] = {}
    for size in (20,) if settings.quick else (40, 100):
        draws = [augmentation.draw(keyed_rng(0, 0, i), size) for i in range(len(meshes))]
        jobs = {f"render {size}": [(mesh, size, ()) for mesh in meshes],
                f"render {size}, augmented": [(mesh, size, draw) for mesh, draw in zip(meshes, draws, strict=True)]}
        if settings.device == "cuda":
            cases |= _on_gpu(meshes, size, draws)
            continue
        for name, job in jobs.items():
            for threads in sorted({1, get_num_threads()}):
                cases[f"{name}; {threads} thread{'s' * (threads > 1)}"] = case(
                    lambda job=job, threads=threads: _run(job, threads))
    results.add(SECTION, "meshes", "count", len(meshes))
    results.add(SECTION, "meshes", "mean triangles", float(np.mean([len(mesh.faces) for mesh in meshes])))
    for name, timing in interleave(cases, settings).items():
        row, column = name.split("; ")
        results.add(SECTION, row, column, len(meshes) / timing.median, "meshes/s", spread=timing.spread,
                    better="higher")


def _on_gpu(meshes: list[Mesh], size: int, draws: list[tuple[Any, ...]]) -> dict[str, Case]:
    """Cases for batches of meshes already on the GPU, first checked against the CPU's cells."""
    batch = MeshBatch(meshes).to("cuda")
    cases: dict[str, Case] = {}
    for name, placements in ((f"render {size}", None), (f"render {size}, augmented", draws)):
        sites, dropped = batch.voxelize(FIELD, size, placements)
        expected, lost = MeshBatch(meshes).voxelize(FIELD, size, placements)
        reference.check(f"voxelizer, {name}", to_device(sites.keys, "cpu"), expected.keys, 0.0)
        reference.check(f"voxelizer, {name}, cells outside", dropped, lost, 0.0)
        cases[f"{name}; GPU, {len(meshes)} at once"] = case(
            lambda placements=placements: batch.voxelize(FIELD, size, placements), None, "cuda")
        cases[f"{name}; GPU, with the upload"] = case(
            lambda placements=placements: MeshBatch(meshes).to("cuda").voxelize(FIELD, size, placements), None, "cuda")
    return cases


def _run(job: list[tuple[Mesh, int, tuple[Any, ...]]], threads: int) -> None:
    def part(index: int) -> None:
        with serial():
            for mesh, size, draw in job[index::threads]:
                voxelize(mesh, FIELD, size, *draw)

    if threads == 1:
        part(0)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, range(threads)))


def _verify(mesh: Mesh) -> None:
    used = mesh.without_unused_vertices()
    lattice = place(used.vertices, (_SMALL,) * 3, _SMALL)
    expected = reference.specified("voxelize_triangles", lattice, used.faces, (_SMALL,) * 3)[0]
    reference.check("voxelizer", voxelize(mesh, _SMALL, _SMALL).coordinates, expected, 0.0)
