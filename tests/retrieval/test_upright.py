"""A query stands as the shapes that it is compared with: turned by the rule that they were turned by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsenet.data import Conversion, SparseDataset, import_csv
from sparsenet.inspect.page.shape import mesh_as_trained
from sparsenet.retrieval import Descriptors, find_similar
from sparsenet.training import load_network, parse_config


@pytest.fixture
def net(experiment):
    return load_network(experiment.checkpoint)[0]


def write_along_y(experiment, number: int, path: Path) -> Path:
    """A test mesh, which stands along z, as an OBJ file in which it stands along y."""
    mesh = experiment.meshes[number]
    path.write_text("".join(f"v {x!r} {z!r} {-y!r}\n" for x, y, z in mesh.vertices.tolist())
                    + "".join(f"f {a} {b} {c}\n" for a, b, c in (mesh.faces + 1).tolist()))
    return path


@pytest.fixture
def shapes(experiment, tmp_path) -> Path:
    """The test meshes, imported from files of both kinds."""
    paths = [(write_along_y if number % 2 else experiment.__class__.write_mesh)(
        experiment, number, tmp_path / f"{number}.{'obj' if number % 2 else 'off'}") for number in range(15)]
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"{path.name}\n" for path in paths))
    import_csv(tmp_path / "list.csv", tmp_path / "shapes.h5", Conversion(12, progress=False))
    return tmp_path / "shapes.h5"


def test_files_of_either_kind_find_themselves(experiment, net, shapes, tmp_path):
    with SparseDataset.open(shapes) as dataset:
        Descriptors.of(net, dataset).save(tmp_path / "d.h5")
    descriptors = Descriptors.load(tmp_path / "d.h5")
    assert descriptors.up_axis == "auto"
    for number in (6, 7):
        for path in (write_along_y(experiment, number, tmp_path / "query.obj"),
                     experiment.write_mesh(number, tmp_path / "query.off")):
            found = find_similar(net, path, descriptors, 1)
            assert found.rows.tolist() == [number] and found.distances[0] < 1e-5
            same = find_similar(net, experiment.meshes[number], descriptors, 1)
            np.testing.assert_array_equal(found.cells, same.cells)


def test_what_was_not_turned_is_asked_as_it_stands(experiment, net, tmp_path):
    with SparseDataset.open(experiment.dataset) as dataset:
        descriptors = Descriptors.of(net, dataset)
    assert descriptors.up_axis == "z"
    query = write_along_y(experiment, 6, tmp_path / "query.obj")
    turned = find_similar(net, query, Descriptors(**{**vars_of(descriptors), "up_axis": "y"}), 1)
    asked = find_similar(net, query, descriptors, 1)
    assert turned.rows.tolist() == [find_similar(net, experiment.meshes[6], descriptors, 1).rows[0]]
    assert asked.cells.tolist() != turned.cells.tolist()


def vars_of(descriptors: Descriptors) -> dict:
    return {name: getattr(descriptors, name) for name in (
        "vectors", "labels", "names", "classes", "checkpoint", "layer", "dataset", "samples", "render_size", "fill")}


def test_the_page_turns_a_mesh_as_those_trained_on(experiment, shapes, tmp_path):
    query, standing = write_along_y(experiment, 6, tmp_path / "query.obj"), experiment.meshes[6]
    for dataset, turned in ((experiment.dataset, False), (shapes, True), ("absent.h5", True)):
        config = parse_config(load_network(experiment.checkpoint)[1].config, "test", [f"data.path={dataset}"])
        mesh = mesh_as_trained(query, config, experiment.checkpoint)
        assert np.array_equal(mesh.vertices, standing.vertices) == turned
