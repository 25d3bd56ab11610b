"""STL, binary and text, as programs write it."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from sparsenet.shapes.mesh import MeshError
from sparsenet.shapes.stl import parse_stl

TRIANGLES = [((0, 0, 0), (1, 0, 0), (1, 1, 0)), ((0, 0, 0), (1, 1, 0), (0, 1, 0.5))]


def binary(header: bytes = b"", extra: bytes = b"", declared: int = 2) -> bytes:
    rows = [struct.pack("<12fH", 0, 0, 1, *np.ravel(triangle), 0) for triangle in TRIANGLES]
    return header.ljust(80, b"\0") + struct.pack("<I", declared) + b"".join(rows) + extra


def text(name: str = "a", end: bool = True) -> str:
    facets = "".join("facet normal 0 0 1\n outer loop\n" + "".join("  vertex {} {} {}\n".format(*corner)
                                                                    for corner in triangle)
                     + " endloop\nendfacet\n" for triangle in TRIANGLES)
    return f"solid {name}\n{facets}" + (f"endsolid {name}\n" if end else "")


@pytest.mark.parametrize("data", [
    binary(), binary(b"solid by a program"), binary(extra=b"\r\n"), binary(b"solid", b"made by someone, 2016"),
    binary(extra=b"\0" * 100), binary(extra=b"x" * 50),
    text(), text("four vertex plate"), text("vertex 1 2 3"), text("facet of a solid"), text("endfacet"), text(""),
    text(end=False), text().replace("\n", "\r"), text().replace("\n", "\r\n"), text().upper(), "\n  " + text(),
    text().replace("endsolid", "end solid"), text().replace("solid a\nfacet", "solid a facet"),
    text().replace("0.5", "5.e-1"), text() + "\n\n",
])
def test_every_form_gives_the_triangles(data):
    mesh = parse_stl(data if isinstance(data, bytes) else data.encode())
    np.testing.assert_array_equal(mesh.vertices[mesh.faces], TRIANGLES)


def test_a_name_in_another_encoding():
    assert len(parse_stl(text("Körper").encode("latin-1")).faces) == 2


def test_solids_of_one_file_are_one_mesh():
    assert len(parse_stl((text("a") + text("b vertex")).encode()).faces) == 4


@pytest.mark.parametrize(("data", "message"), [
    (binary(declared=3), "declare 3 triangles, 2 follow"),
    (binary(declared=2**32 - 1), "declare 4294967295 triangles, 2 follow"),
    (binary(declared=1), "declare 1 triangles, 2 follow"),
    (binary(declared=0), "declare 0 triangles, 2 follow"),
    (binary()[:-1], "declare 2 triangles, 1 follow"),
    (b"\0" * 84, "no face"),
    (b"STL", "neither a text STL, which starts with 'solid', nor"),
    (text()[:-30], "2 facets begin and 1 end: truncated"),
    (text().replace("1 1 0", "1 one 0"), "a vertex is not three numbers: expected a number, got 'one'"),
    (text().replace("vertex 1 0 0", "vertex 1 0"), "a vertex is not three numbers: expected a number, got 'vertex'"),
    (text().replace("  vertex 1 0 0\n", ""), "2 facets have 5 vertices, expected three each"),
    (text().replace("1 1 0", "1 nan 0"), "must be finite"),
    ("solid nothing\nendsolid nothing\n", "no face"),
])
def test_what_is_wrong_is_said(data, message):
    with pytest.raises(MeshError, match=message) as raised:
        parse_stl(data if isinstance(data, bytes) else data.encode())
    assert "\n" not in str(raised.value)
