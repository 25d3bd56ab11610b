"""The format of a mesh file by its content."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from sparsenet.shapes import MeshError, read_mesh
from sparsenet.shapes.content import mesh_format
from sparsenet.shapes.reading import mesh_suffix, unpacked

TRIANGLE = struct.pack("<12fH", *np.arange(12), 0)


@pytest.mark.parametrize(("data", "suffix"), [
    (b"OFF\n3 1 0\n", ".off"), (b"\xef\xbb\xbfOFF 3 1 0\n", ".off"), (b"OFF3514 3546 0\n", ".off"), (b"COFF\n", ".off"),
    (b"# made by hand\n# twice\nOFF\n3 1 0\n", ".off"), (b"8 6 12\n0 0 0\n", ".off"), (b"stoff\n1 1 1\n", ".off"),
    (b"ply\nformat ascii 1.0\n", ".ply"), (b"ply\r\nformat", ".ply"), (b"glTF" + bytes(16), ".glb"),
    (b'{"asset": {"version": "2.0"}}', ".gltf"), (b"\xef\xbb\xbf\n {", ".gltf"),
    (b"solid cube\nfacet normal 0 0 1\n", ".stl"), (b"SOLID\nendsolid\n", ".stl"),
    (bytes(80) + struct.pack("<I", 1) + TRIANGLE, ".stl"), (b"solid by a liar".ljust(80) + struct.pack("<I", 2) + 2
                                                            * TRIANGLE + b"more", ".stl"),
    (b"# cube\nmtllib x.mtl\nv 0 0 0\nf 1 1 1\n", ".obj"), (b"v -1 .5 2\n", ".obj"), (b"o a\n  v\t0 0 0\n", ".obj")])
def test_the_beginning_tells(data, suffix):
    assert mesh_format(data) == suffix


@pytest.mark.parametrize(("data", "message"), [
    (b"", "empty"), (b" \n\t", "empty"), (b"PK\x03\x04" + bytes(90), "a ZIP archive: unpack it"),
    (b"\x1f\x8b" + bytes(9), "compressed twice"), (b"\x89PNG\r\n", "a PNG"), (b"%PDF-1.7", "a PDF"),
    (b"<!DOCTYPE html>", "a web page"), (b"\x89HDF\r\n", "HDF5"), (b"ISO-10303-21;", "STEP"),
    (b"Hello, world\n", "none of OFF"), (bytes(200), "none of"), (b"vn 0 0 1\nf 1 2 3\n", "none of"),
    (b"solid state physics is a field", "none of"), (bytes(80) + struct.pack("<I", 9) + TRIANGLE, "none of"),
    (b"\0v 1 2 3\nv 1 2 3\n", "none of")])
def test_other_content_is_refused(data, message):
    with pytest.raises(MeshError, match=message):
        mesh_format(data)


def test_each_file_that_can_be_read_is_known_by_its_content(data_root):
    seen = 0
    for path in sorted((data_root / "odd_meshes").iterdir()) + sorted((data_root / "modelnet_off").iterdir()):
        suffix = mesh_suffix(path)
        if suffix not in (".off", ".obj", ".ply", ".stl", ".glb", ".gltf"):
            continue
        try:
            read_mesh(path)
        except MeshError:
            continue
        data = path.read_bytes()
        assert mesh_format(unpacked(data) if path.suffix == ".gz" else data) == suffix, path.name
        seen += 1
    assert seen > 60


def test_a_limit_of_what_is_unpacked():
    import gzip

    data = gzip.compress(bytes(10_000))
    assert unpacked(data, 10_000) == bytes(10_000)
    with pytest.raises(MeshError, match="more than 9999 bytes"):
        unpacked(data, 9_999)


def test_json_that_is_not_a_scene_is_left_to_its_reader():
    assert mesh_format(json.dumps({"a": 1}).encode()) == ".gltf"
