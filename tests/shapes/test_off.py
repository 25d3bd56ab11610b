"""OFF files as other programs write them."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.shapes.mesh import MeshError
from sparsenet.shapes.off import parse_off

VERTICES = "0 0 0\n1 0 0\n1 1 0\n0 1 0.5\n"
TRIANGLES = "3 0 1 2\n3 0 2 3\n"
EXPECTED = [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize("header", [
    "OFF\n4 2 0\n", "OFF\n4 2\n", "OFF4 2 0\n", "OFF 4 2 0\n", "off\n4 2 0\n", "4 2 0\n", "\n\n  OFF\n\n4 2 -1\n",
    "# made by hand\nOFF # the word\n# a line\n4 2 0 # the counts\n", "\ufeffOFF\n4 2 0\n", "OFF\r\n4 2 0\r\n",
])
def test_every_form_of_the_header(header):
    mesh = parse_off((header + VERTICES + TRIANGLES).encode())
    assert mesh.faces.tolist() == EXPECTED
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.5]]


def test_numbers_are_read_to_the_last_bit():
    values = np.random.default_rng(0).normal(size=(50, 3)) * 10.0 ** np.arange(-25, 25)[:, None]
    text = "OFF\n50 1 0\n" + "\n".join(" ".join(map(repr, row)) for row in values.tolist()) + "\n3 0 1 2\n"
    np.testing.assert_array_equal(parse_off(text.encode()).vertices, values)


@pytest.mark.parametrize("body", [
    VERTICES + "4 0 1 2 3\n",  # a quad
    VERTICES + "4 0 1\n2\n\n3\n",  # over several lines
    VERTICES.replace("\n", " ") + "4 0 1 2 3",  # all on one line
    VERTICES + "4 0 1 2 3 255 0 0\n",  # with a colour
    VERTICES.replace("\n", " 9 9 9\n") + "4 0 1 2 3\n",  # vertices with normals or colours
    VERTICES + "4 0 1 2 3\n2 0 1\n",  # more lines than declared
])
def test_polygons_are_cut_into_fans_and_colours_are_passed_over(body):
    assert sorted(parse_off(("COFF\n4 1 0\n" + body).encode()).faces.tolist()) == EXPECTED


def test_triangles_quads_and_larger_polygons_together():
    body = VERTICES + "-1 0.5 0.2\n" + "3 0 1 2\n4 0 1 2 3\n5 0 1 2 3 4\n2 0 1\n"
    faces = parse_off(("OFF\n5 4 0\n" + body).encode()).faces.tolist()
    assert sorted(faces) == sorted([[0, 1, 2], *EXPECTED, *EXPECTED, [0, 3, 4]])


@pytest.mark.parametrize("colours", [
    ("9 1 2", "3 1 2"), ("5", "5"), ("1 2 3 4 5", "3 0 1 2 0"), ("0.5 0.5 0.5", "1 1 1"), ("3 0 1 2", "3 0 1 2")])
def test_colours_in_whole_numbers_are_not_taken_for_faces(colours):
    """Read word by word, some of these would be faces: the lines decide."""
    lines = [f"{face} {colour}" for face, colour in zip(TRIANGLES.splitlines(), colours, strict=True)]
    mesh = parse_off(("OFF\n4 2 0\n" + VERTICES + "\n".join(lines)).encode())
    assert mesh.faces.tolist() == EXPECTED


def test_a_notch_is_not_filled():
    mesh = parse_off(b"OFF\n4 1 0\n0 0 0\n2 0 0\n0.5 0.5 0\n0 2 0\n4 0 1 2 3\n")
    assert {tuple(sorted(face)) for face in mesh.faces.tolist()} == {(0, 1, 2), (0, 2, 3)}
    mesh = parse_off(b"OFF\n4 1 0\n0.5 0.5 0\n0 2 0\n0 0 0\n2 0 0\n4 1 2 3 0\n")
    assert {tuple(sorted(face)) for face in mesh.faces.tolist()} == {(0, 1, 2), (0, 2, 3)}


@pytest.mark.parametrize(("text", "message"), [
    ("1 2 3\n4 5 6\n7 8 9\n", "the header declares 1 vertices and 2 faces"),
    ("1.5 2 3\n4 5 6\n", "starts with neither the word OFF nor the line"),
    ("OFF\nx y z\n", "OFF is not followed by the line 'vertices faces edges'"),
    ("OFF BINARY\n1 1 1\n", "binary OFF is not read"),
    ("4OFF\n4 2 0\n", "4OFF"),
    ("OFF\n4000000000 2 0\n" + VERTICES, "declares 4000000000 vertices and 2 faces, more than"),
    ("OFF\n4 99999999999 0\n" + VERTICES, "declares 4 vertices and 99999999999 faces"),
    ("OFF\n4 3 0\n" + VERTICES + TRIANGLES, "declares 4 vertices and 3 faces, there are 6 lines"),
    ("OFF\n4 2 0\n" + VERTICES.replace("0.5", "high") + TRIANGLES, "expected a number, got 'high'"),
    ("OFF\n4 2 0\n" + VERTICES.replace("0.5", "nan") + TRIANGLES, "vertex 3 is .* must be finite"),
    ("OFF\n4 2 0\n" + VERTICES.replace("0.5", "1e999") + TRIANGLES, "vertex 3 is .* must be finite"),
    ("OFF\n4 2 0\n" + VERTICES + "3 0 1 4\n3 0 2 3\n", "refers to vertex 4, there are 4"),
    ("OFF\n4 2 0\n" + VERTICES + "3 0 1 -1\n3 0 2 3\n", "refers to vertex -1"),
    ("OFF\n4 2 0\n" + VERTICES + "3 0 1 1.5\n3 0 2 3\n", "refers to vertex 1.5, expected a whole"),
    ("OFF\n4 2 0\n" + VERTICES + "3 0 1 nan\n3 0 2 3\n", "refers to vertex nan, expected a whole"),
    ("OFF\n4 2 0\n" + VERTICES + "3 0 1\n3 0 2 3 9\n", "a face is '3 0 1', expected"),
    ("OFF\n4 2 0\n" + VERTICES.replace("1 1 0", "1 1") + TRIANGLES + "9 9\n", "a vertex is '1 1'"),
    ("OFF\n4 0 0\n" + VERTICES, "no face"),
    ("OFF\n0 0 0\n", "no face"),
    ("OFF\n4 1 0\n" + VERTICES + "9" * 5000 + " 0 1\n", "a face is '999"),
    ("OFF\n5 0 0\n" + VERTICES + " " * 30, "declares 5 vertices and 0 faces, there are 4 lines"),
    ("OFF\n4 1 0\n" + VERTICES + "2 0 1\n", "no face"),
    ("OFF\n4 2 0\n" + VERTICES.replace("0.5", "x" * 5000) + TRIANGLES, "expected a number, got 'xxx.*'[.][.][.]"),
    ("OFF\n4 2 0\n" + VERTICES.replace("0.5", "1_0") + TRIANGLES, "expected a number, got '1_0'"),
    ("OFF\n4 2 0\n" + VERTICES + "3 0 1 " + "7" * 400 + "\n3 0 2 3\n", "refers to vertex inf"),
])
def test_what_is_wrong_is_said(text, message):
    with pytest.raises(MeshError, match=message) as raised:
        parse_off(text.encode())
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 200
