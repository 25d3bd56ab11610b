"""A small trained-looking experiment: built-in shapes in a file, and a checkpoint of a network for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparsenet.cli import main
from sparsenet.data import Sample, SparseDataset
from sparsenet.random import keyed_rng
from sparsenet.shapes import Mesh, Off3DPicture, parametric_mesh
from sparsenet.training import Checkpoint, build_network, parse_config, save_checkpoint

CLASSES = ["mug", "stool", "table"]
SHAPES = 5  # of a class, in each split
RENDER_SIZE = 12


@dataclass
class Experiment:
    folder: Path
    checkpoint: Path
    dataset: Path
    meshes: list[Mesh]  # of the test split, in the order of its samples

    def write_mesh(self, number: int, path: Path) -> Path:
        """A test mesh as an OFF file."""
        mesh = self.meshes[number]
        lines = ["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0"]
        lines += [" ".join(map(repr, map(float, vertex))) for vertex in mesh.vertices]
        lines += ["3 " + " ".join(map(str, face)) for face in mesh.faces]
        path.write_text("\n".join(lines) + "\n")
        return path


def make_experiment(folder: Path, kind: str) -> Experiment:
    meshes, samples = [], []
    for split in ("train", "test"):
        for label, name in enumerate(CLASSES):
            for number in range(SHAPES):
                mesh = parametric_mesh(name, keyed_rng(3, split, label, number))
                cells = Off3DPicture(mesh, RENDER_SIZE).voxelize((RENDER_SIZE,) * 3).coordinates
                samples.append(Sample(cells, label, f"{name}/{split}{number}", split))
                meshes += [mesh] if split == "test" else []
    SparseDataset.create(folder / "shapes.h5", samples, (RENDER_SIZE,) * 3, RENDER_SIZE, CLASSES).close()
    config = parse_config(f"""
        data.path = "{(folder / 'shapes.h5').as_posix()}"
        data.render_size = 0
        data.workers = 0
        network.channels = [8, 12, 16]
        loss.kind = "{kind}"
    """, "test")
    net = build_network(config, len(CLASSES))
    save_checkpoint(folder / "best.h5", Checkpoint(net.get_weights(), {}, epoch=0, step=0, seconds=0.0,
                                                   config=config.text(), classes=CLASSES))
    return Experiment(folder, folder / "best.h5", folder / "shapes.h5", meshes)


@pytest.fixture(scope="session")
def experiment(tmp_path_factory) -> Experiment:
    """The experiment of a classifier."""
    return make_experiment(tmp_path_factory.mktemp("classifier"), "softmax")


@pytest.fixture(scope="session")
def triplet_experiment(tmp_path_factory) -> Experiment:
    """The experiment of a triplet network."""
    return make_experiment(tmp_path_factory.mktemp("triplet"), "triplet")



@pytest.fixture(scope="session")
def make_shapes() -> Callable[..., Path]:
    """Writes a dataset file with this many shapes of each class, in this order of classes, and some without a label."""

    def make(path: Path, counts: dict[str, int], unlabelled: int = 0, split: str = "test") -> Path:
        samples = []
        for label, (name, count) in enumerate([*counts.items(), ("", unlabelled)]):
            for number in range(count):
                mesh = parametric_mesh(name if name in CLASSES else "lamp", keyed_rng(4, name, number))
                cells = Off3DPicture(mesh, RENDER_SIZE).voxelize((RENDER_SIZE,) * 3).coordinates
                samples.append(Sample(cells, label if name else -1, f"{name}/{number}", split))
        SparseDataset.create(path, samples, (RENDER_SIZE,) * 3, RENDER_SIZE, list(counts)).close()
        return path

    return make


@pytest.fixture
def tool(capsys) -> Callable:
    """Calls a command in this process -> (exit code, stdout, stderr)."""

    def call(name: str, *arguments: object) -> tuple[int, str, str]:
        try:
            code = main([name, *map(str, arguments)])
        except SystemExit as stop:  # argparse
            code = stop.code
        return code, *capsys.readouterr()

    return call
