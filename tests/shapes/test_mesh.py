"""A mesh is checked when it is made."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.shapes import Mesh, MeshError
from sparsenet.shapes.mesh import merge

CORNERS = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


def test_dtypes_are_converted():
    mesh = Mesh(CORNERS, np.array([[0, 1, 2]], np.uint64))
    assert mesh.vertices.dtype == np.float64 and mesh.faces.dtype == np.int32
    assert mesh.vertices.flags.c_contiguous and mesh.faces.flags.c_contiguous


@pytest.mark.parametrize(("vertices", "faces", "message"), [
    (CORNERS, np.zeros((0, 3), int), "3 vertices and no face"),
    (CORNERS[:1], np.zeros((0, 3), int), "1 vertex and no face"),
    (CORNERS, [[0, 1, 2, 0]], r"faces have shape \(1, 4\), expected \(F, 3\)"),
    (CORNERS, [[0, 1, 3]], "refers to vertex 3, there are 3"),
    (CORNERS, [[0, 1, -1]], "refers to vertex -1"),
    (CORNERS, [[0, 1, 2**40]], "refers to vertex 1099511627776"),
    (CORNERS, [[0.0, 1.0, 2.0]], "faces are float64, expected integers"),
    ([[0, 0], [1, 0], [0, 1]], [[0, 1, 2]], r"vertices have shape \(3, 2\)"),
    ([[0, 0, 0], [1, np.nan, 0], [0, 1, 0]], [[0, 1, 2]], "vertex 1 is .* must be finite"),
])
def test_unsound_arrays_are_refused(vertices, faces, message):
    with pytest.raises(MeshError, match=message):
        Mesh(vertices, faces)


def test_merging_keeps_all_triangles():
    one, two = Mesh(CORNERS, [[0, 1, 2]]), Mesh(np.add(CORNERS, 5), [[2, 1, 0], [0, 1, 2]])
    both = merge([one, two])
    assert both.faces.tolist() == [[0, 1, 2], [5, 4, 3], [3, 4, 5]] and len(both.vertices) == 6
    assert merge([one]) is one


def test_a_mesh_with_y_up_is_rotated_to_z_up():
    mesh = Mesh([[1, 2, 3], [4, 5, 0], [0, 1, 0]], [[0, 1, 2]])
    turned = mesh.upright("y")
    assert turned.vertices.tolist() == [[1, -3, 2], [4, 0, 5], [0, 0, 1]] and turned.faces.tolist() == [[0, 1, 2]]
    assert not np.signbit(turned.vertices[1:]).any()
    basis = Mesh(np.eye(3), [[0, 1, 2]]).upright("y").vertices
    assert np.linalg.det(basis) == 1  # a rotation, not a mirror
    assert mesh.upright("z") is mesh


def test_another_axis_is_refused():
    with pytest.raises(ValueError, match="up_axis is 'x', expected 'y' or 'z'"):
        Mesh(CORNERS, [[0, 1, 2]]).upright("x")


def test_faces_keep_the_labels_of_their_parts():
    spare = Mesh([[9, 9, 9], *CORNERS], [[1, 2, 3], [3, 2, 1]], np.array([2, -1], np.int8))
    assert spare.face_labels.dtype == np.int32
    for other in (spare.without_unused_vertices(), spare.upright("y"), merge([spare])):
        assert other.face_labels.tolist() == [2, -1]
    one = Mesh(CORNERS, [[0, 1, 2]], [5])
    assert merge([one, spare]).face_labels.tolist() == [5, 2, -1]
    assert merge([one, Mesh(CORNERS, [[0, 1, 2]])]).face_labels is None


@pytest.mark.parametrize(("labels", "message"), [
    ([0, 1], r"face_labels are int64 of shape \(2,\), expected \(1,\) integers, one for each face"),
    ([0.0], "face_labels are float64"), ([-2], "a face has the label -2, expected 0 or more, or -1"),
    ([2**31], "a face has the label 2147483648"),
])
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(MeshError, match=message):
        Mesh(CORNERS, [[0, 1, 2]], labels)
