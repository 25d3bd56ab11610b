"""OBJ: vertices and faces in every notation."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.shapes.mesh import MeshError
from sparsenet.shapes.obj import parse_obj

V = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


@pytest.mark.parametrize("face", [
    "f 1 2 3", "f 1/1 2/2 3/3", "f 1/1/1 2//2 3/3/", "f -3 -2 -1", "f -3//1 -2/1 -1/1/1 # the latest", "  f\t1  2 3",
    "f 1 2 \\\n3", "f 1 2 \\\r\n3", "g a f 3\nusemtl f 1\nf 1 2 3\nl 1 2\np 1\nvn 0 0 1\nvt 0 0"])
def test_every_spelling_of_a_face(face):
    mesh = parse_obj((V + face).encode())
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]] and mesh.faces.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_end_of_a_line(end):
    assert len(parse_obj((V + "f 1 2 3\nf 3 2 1\n").replace("\n", end).encode()).faces) == 2


def test_weights_and_colours_of_vertices_are_passed_over():
    assert parse_obj(b"v 0 0 0 1\nv 1 0 0 0.5 0.5 0.5\nv 0 1 0\nf 1 2 3\n").vertices.shape == (3, 3)


def test_corners_counted_back_count_from_their_own_line():
    mesh = parse_obj((V + "f -3 -2 -1\nv 5 0 0\nv 6 0 0\nv 5 1 0\nf -3 -2 -1\n").encode())
    assert mesh.faces.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_face_may_precede_its_vertices():
    assert parse_obj(b"f 1 2 3\n" + V.encode()).faces.tolist() == [[0, 1, 2]]


def test_text_that_is_not_utf8_is_no_matter():
    assert len(parse_obj("g Körper\n".encode("latin-1") + V.encode() + b"f 1 2 3\n").faces) == 1


def test_numbers_are_read_to_the_last_bit():
    values = np.random.default_rng(0).normal(size=(50, 3)) * 10.0 ** np.arange(-25, 25)[:, None]
    text = "".join("v {!r} {!r} {!r}\n".format(*row) for row in values.tolist())
    np.testing.assert_array_equal(parse_obj((text + "f 1 2 3\n").encode()).vertices, values)


@pytest.mark.parametrize(("text", "message"), [
    (V + "f 1 2 4\n", r"refers to vertex 4, there are 3 \(OBJ counts from 1"),
    (V + "f 1 2 0\n", "refers to vertex 0, 3 are before it"),
    (V + "f 1 2 -4\n", "refers to vertex -4, 3 are before it"),
    ("f -1 -2 -3\n" + V, "refers to vertex -1, 0 are before it"),
    (V + "f 1 2 4000000000\n", "refers to vertex 4000000000, expected a whole number below"),
    (V + "f 1 2 1.5\n", "refers to vertex 1.5, expected a whole number"),
    (V + "f one 2 3\n", "expected a number, got 'one'"),
    (V + "f /1 2 3\n", "expected a number, got '/1'"),
    (V + "f 1 2 " + "x" * 5000, "expected a number, got 'xxx.*'[.][.][.]"),
    ("v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n", "a vertex is 'v 0 0', expected v and three numbers"),
    ("v 0 zero 0\n" + V + "f 1 2 3\n", "expected a number, got 'zero'"),
    ("v 0 1_0 0\n" + V + "f 1 2 3\n", "expected a number, got '1_0'"),
    (V + "l 1 2\np 3\n", "3 vertices and no face"),
    (V + "f 1 2\nf\n", "3 vertices and no face"),
])
def test_what_is_wrong_is_said_in_one_short_line(text, message):
    with pytest.raises(MeshError, match=message) as raised:
        parse_obj(text.encode())
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 200
