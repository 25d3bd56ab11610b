"""The ten built-in classes: sound, seeded, varied, and apart from each other."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.random import keyed_rng
from sparsenet.shapes import CLASSES, parametric_mesh, voxelize
from sparsenet.shapes.parametric import PARTS
from sparsenet.shapes.primitives import arc_plate, ball, box, cylinder, rod, tube


def area(body) -> float:
    vertices, faces = body
    corners = vertices[faces]
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2


def grids(split: str, count: int, size: int = 20) -> tuple[np.ndarray, np.ndarray]:
    grid = np.zeros((len(CLASSES), count, size, size, size), np.float32)
    for label, name in enumerate(CLASSES):
        for sample in range(count):
            coordinates, _ = voxelize(parametric_mesh(name, keyed_rng(0, split, name, sample)), size, size)
            grid[label, sample][tuple(coordinates.T)] = 1
    return grid.reshape(len(CLASSES) * count, -1), np.repeat(np.arange(len(CLASSES)), count)


def test_there_are_ten_classes():
    assert len(CLASSES) == 10 and list(CLASSES) == sorted(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_meshes_follow_the_seed_and_differ_between_seeds(name):
    meshes = [parametric_mesh(name, keyed_rng(5, name, sample)) for sample in range(12)]
    again = parametric_mesh(name, keyed_rng(5, name, 0))
    np.testing.assert_array_equal(meshes[0].vertices, again.vertices)
    np.testing.assert_array_equal(meshes[0].faces, again.faces)
    boxes = np.array([np.ptp(mesh.vertices, axis=0) for mesh in meshes])
    assert len(np.unique(boxes.round(6), axis=0)) == 12
    shapes = {tuple(voxelize(mesh, 24, 24).coordinates.ravel()) for mesh in meshes}
    assert len(shapes) == 12


@pytest.mark.parametrize("name", CLASSES)
def test_meshes_are_small_and_without_unused_vertices(name):
    for sample in range(20):
        mesh = parametric_mesh(name, keyed_rng(sample, name))
        assert 40 < len(mesh.faces) < 3000
        assert mesh.without_unused_vertices() is mesh


def test_classes_are_separable_but_not_trivially():
    train, train_labels = grids("train", 25)
    test, test_labels = grids("test", 8)
    nearest = (train ** 2).sum(axis=1) - 2 * test @ train.T
    accuracy = (train_labels[nearest.argmin(axis=1)] == test_labels).mean()
    assert 0.85 < accuracy  # the nearest raw grid; a trained network does better
    unit = test / np.linalg.norm(test, axis=1, keepdims=True)
    likeness = unit @ unit.T
    same = test_labels[:, None] == test_labels
    own = (likeness * same).sum() / same.sum()
    assert own < 0.75  # members of a class share less than three quarters of their cells


def test_another_class_is_refused():
    with pytest.raises(ValueError, match="class_name is 'spoon', expected one of bed"):
        parametric_mesh("spoon", keyed_rng(0))


def test_primitives_have_the_surfaces_they_should():
    assert area(box((1, 2, 3), (5, 5, 5))) == pytest.approx(22)
    assert area(cylinder(1, 0, 2, sections=200)) == pytest.approx(2 * np.pi + 4 * np.pi, rel=1e-3)
    assert area(ball(1, (1, 2, 3), sections=200)) == pytest.approx(4 * np.pi, rel=1e-3)
    assert area(rod((0, 0, 0), (1, 2, 2), 0.5, sections=200)) == pytest.approx(3 * np.pi + np.pi / 2, rel=1e-3)
    angle = np.linspace(0, np.pi / 2, 100)
    bend = np.stack([np.cos(angle), np.sin(angle), np.zeros(100)], axis=1)
    assert area(tube(bend, 0.1, 100)) == pytest.approx(np.pi / 2 * 0.2 * np.pi + 0.02 * np.pi, rel=1e-2)
    assert area(arc_plate(1, 2, 1, 0, np.pi, sections=200)) == pytest.approx(3 * np.pi + 3 * np.pi + 2, rel=1e-3)


def test_a_tube_has_its_radius_about_its_path():
    vertices, _ = rod((0, 0, 0), (3, 0, 4), 0.25)
    along = vertices @ (0.6, 0, 0.8)
    distance = np.linalg.norm(vertices - along[:, None] * (0.6, 0, 0.8), axis=1)
    assert set(distance.round(9)) == {0.0, 0.25}


@pytest.mark.parametrize("name", CLASSES)
def test_every_face_is_of_a_part_of_its_class(name):
    expected = {"bed": {"mattress", "back", "base", "leg"}, "bookshelf": {"shelf"}, "bottle": {"body", "neck"},
                "chair": {"seat", "leg", "back"}, "hammer": {"handle", "head"}, "lamp": {"base", "shade"},
                "mug": {"body", "handle"}, "stool": {"seat", "leg"}, "table": {"top", "leg", "shelf"},
                "wrench": {"handle", "head"}}[name]
    seen = set()
    for sample in range(40):
        mesh, plain = (parametric_mesh(name, keyed_rng(sample, name), parts) for parts in (True, False))
        assert np.array_equal(mesh.faces, plain.faces) and np.array_equal(mesh.vertices, plain.vertices)
        assert plain.face_labels is None and (mesh.face_labels >= 0).all()
        seen |= {PARTS[label] for label in np.unique(mesh.face_labels)}
    assert seen == expected


def test_parts_are_where_they_should_be():
    """Legs below the seat, the back above it; the neck above the body."""
    for sample in range(10):
        chair, bottle = (parametric_mesh(name, keyed_rng(sample, name), parts=True) for name in ("chair", "bottle"))
        heights = {part: chair.vertices[chair.faces[chair.face_labels == PARTS.index(part)], 2].mean()
                   for part in ("leg", "seat", "back")}
        assert heights["leg"] < heights["seat"] < heights["back"]
        neck = bottle.face_labels == PARTS.index("neck")
        assert bottle.vertices[bottle.faces[neck], 2].min() > bottle.vertices[bottle.faces[~neck], 2].mean()
