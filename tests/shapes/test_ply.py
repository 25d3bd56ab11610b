"""PLY, text and binary: every layout of rows, and headers that lie."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from sparsenet.shapes.mesh import MeshError
from sparsenet.shapes.ply import parse_ply

V = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0.5, 2, 0)]
FACES = [(0, 1, 2, 3), (3, 2, 4)]
CUT = [[0, 1, 2], [0, 2, 3], [3, 2, 4]]
FORMS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {"uchar": "B", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d", "int8": "b", "uint8": "B"}


def value(order: str, kind: str, number: float) -> bytes:
    if not order:
        return f"{number} ".encode()
    return struct.pack(order + TYPES[kind], number if kind in ("float", "double") else int(number))


def row(order: str, properties: list[tuple], values: list) -> bytes:
    """One row: a number for each property, a list for (count type, type, name)."""
    parts = []
    for (*length, kind, _), number in zip(properties, values, strict=True):
        if length:
            parts += [value(order, length[0], len(number)), *(value(order, kind, item) for item in number)]
        else:
            parts.append(value(order, kind, number))
    return b"".join(parts) + (b"" if order else b"\n")


def ply(form: str, *elements: tuple, comment: str = "", end: str = "\n") -> bytes:
    """elements : (name, properties, rows)"""
    lines = ["ply", f"format {form} 1.0", *comment.splitlines()]
    for name, properties, rows in elements:
        lines.append(f"element {name} {len(rows)}")
        lines += [f"property {'list ' if len(column) == 3 else ''}{' '.join(column)}" for column in properties]
    head = end.join([*lines, "end_header", ""]).encode()
    return head + b"".join(row(FORMS[form], properties, values) for _, properties, rows in elements for values in rows)


XYZ = [("float", "x"), ("float", "y"), ("float", "z")]
LIST = [("uchar", "int", "vertex_indices")]
VERTEX, FACE = ("vertex", XYZ, V), ("face", LIST, [[face] for face in FACES])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_quads_beside_triangles(form, end):
    mesh = parse_ply(ply(form, VERTEX, FACE, end=end))
    assert mesh.faces.tolist() == CUT
    np.testing.assert_array_equal(mesh.vertices, V)


@pytest.mark.parametrize("form", FORMS)
def test_other_elements_and_properties_are_passed_over(form):
    vertex = ("vertex", [("double", "x"), ("uchar", "red"), ("double", "y"), ("double", "z")],
              [(x, 7, y, z) for x, y, z in V])
    camera = ("camera", [("float", "f"), ("uchar", "uchar", "tags")], [(1, [3, 1]), (2, [])])
    columns = [("uchar", "flag"), ("uchar", "float", "texcoord"), ("int", "uint", "vertex_index"), ("float", "q")]
    face = ("face", columns, [(1, [0.5] * 6, FACES[0], 2), (0, [], FACES[1], 3)])
    edge = ("edge", [("int", "vertex1"), ("int", "vertex2")], [(0, 1)])
    assert parse_ply(ply(form, camera, vertex, edge, face)).faces.tolist() == CUT


@pytest.mark.parametrize("form", FORMS)
def test_comments_may_say_anything(form):
    comment = "comment written as ascii end_header\nobj_info end_header ascii\ncomment element vertex 9\nand goes on"
    assert parse_ply(ply(form, VERTEX, FACE, comment=comment)).faces.tolist() == CUT


def test_a_binary_body_may_begin_with_the_byte_of_a_line_end():
    first = struct.unpack("<f", b"\n\0\0@")[0]
    body = ply("binary_little_endian", ("vertex", XYZ, [(first, 0, 0), *V[1:]]), FACE)
    assert parse_ply(body).vertices[0, 0] == first


@pytest.mark.parametrize("form", FORMS)
def test_strips_are_cut_with_their_turns(form):
    rows = [[(0, 1, 2, 3, -1, 4, 2, 1)], [()], [(-1, 0, 1)], [(1, 2, 3)]]
    strips = ("tristrips", [("int", "int", "vertex_indices")], rows)
    faces = parse_ply(ply(form, VERTEX, strips)).faces.tolist()
    assert faces == [[0, 1, 2], [2, 1, 3], [4, 2, 1], [1, 2, 3]]
    both = parse_ply(ply(form, VERTEX, FACE, strips))
    assert both.faces.tolist() == CUT + faces


@pytest.mark.parametrize("form", FORMS)
def test_points_alone_mark_their_cells(form):
    for elements in ([VERTEX], [VERTEX, ("face", LIST, [])]):
        mesh = parse_ply(ply(form, *elements))
        assert mesh.faces.tolist() == [[row] * 3 for row in range(5)]
        np.testing.assert_array_equal(mesh.vertices, V)


def test_text_rows_may_be_longer_than_declared_or_go_over_several_lines():
    text = ply("ascii", VERTEX, FACE).decode()
    header, _, body = text.partition("end_header\n")
    longer = "".join(line + " 9 9\n" for line in body.splitlines())
    for other in (longer, body.replace(" ", "\n"), body.replace("\n", " ")):
        assert parse_ply(f"{header}end_header\n{other}".encode()).faces.tolist() == CUT


def test_many_rows_of_both_kinds_are_read_alike(rng):
    sizes = rng.integers(3, 5, 3000)
    mixed = [[tuple(range(size))] for size in sizes]
    mesh = parse_ply(ply("binary_little_endian", VERTEX, ("face", LIST, mixed)))
    assert len(mesh.faces) == (sizes - 2).sum()


def test_a_header_of_very_many_elements_is_looked_through_once():
    elements = b"".join(b"element a%d 0\n" % number for number in range(50_000))
    began = time.process_time()
    with pytest.raises(MeshError, match="no element 'vertex'"):
        parse_ply(b"ply\nformat ascii 1.0\n" + elements + b"end_header\n")
    assert time.process_time() - began < 5


@pytest.mark.parametrize(("data", "message"), [
    (b"plyformat", "does not start with the line 'ply'"),
    (ply("ascii", VERTEX, FACE)[:60], "header has no end"),
    (b"ply\nelement vertex 1\nend_header\n0", "no line 'format'"),
    (ply("ascii", VERTEX, FACE).replace(b"float x", b"floating x"), "a line of the header is 'property floating x'"),
    (ply("ascii", VERTEX, FACE).replace(b"vertex 5", b"vertex -5"), "a line of the header is 'element vertex -5'"),
    (ply("ascii", VERTEX, FACE).replace(b"vertex 5", b"vertex " + b"9" * 5000), "'element vertex 999"),
    (ply("ascii", VERTEX, FACE).replace(b"vertex 5", b"vertex 4000000000"), "declares 4000000002 rows"),
    (ply("ascii", VERTEX, FACE).replace(b"vertex 5", b"vertex 9"), "declares 11 lines, there are 7"),
    (ply("ascii", VERTEX, FACE).replace(b"4 0 1 2 3", b"4 0 1 2"), "a row of element face is '4 0 1 2'"),
    (ply("ascii", VERTEX, FACE).replace(b"0 1 2", b"0 one 2"), "expected a number, got 'one'"),
    (ply("ascii", VERTEX, FACE).replace(b"3 2 4", b"3 2 5"), "refers to vertex 5, there are 5"),
    (ply("ascii", VERTEX, FACE).replace(b"float z", b"float w"), "no property z"),
    (ply("ascii", ("point", XYZ, V)), "no element 'vertex'"),
    (ply("ascii", VERTEX, VERTEX), "2 elements vertex"),
    (ply("ascii", ("vertex", XYZ, [])), "no face and no point"),
    (ply("ascii", VERTEX, ("face", [("int", "a")], [(1,)])), "element face has no list 'vertex_indices'"),
    (ply("binary_big_endian", VERTEX, FACE)[:-3], "ends before the 2 rows of element face"),
    (ply("binary_big_endian", VERTEX, FACE)[:-14], "ends before the 2 rows of element face"),
    (ply("binary_big_endian", VERTEX)[:-3], "ends before the 5 rows of element vertex"),
    (ply("binary_big_endian", VERTEX, ("face", [("int8", "int", "vertex_indices")], [[FACES[1]]]))
     .replace(b"\x03\0\0\0\x03", b"\xfd\0\0\0\x03"), "a list of element face has -3 values"),
    (b"ply\nformat binary_little_endian 1.0\nelement vertex 9\nend_header\n" + b"0" * 99, "9 rows and no property"),
])
def test_what_is_wrong_is_said(data, message):
    with pytest.raises(MeshError, match=message) as raised:
        parse_ply(data)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300
