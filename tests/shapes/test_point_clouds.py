"""Point clouds: PLY, text, NPY, and what is refused."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest

from sparsenet.shapes import MeshError, Off3DPicture, read_mesh, read_points

POINTS = np.array([[0.0, 0.5, 1.0], [2.0, -1.0, 0.25], [1.0, 1.0, 1.0]])
PLY = ("ply\nformat {} 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
       "property uchar red\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n")


def npy(array: np.ndarray, version: tuple | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


TEXT = PLY.format("ascii") + "0 0.5 1 7\n2 -1 0.25 8\n1 1 1 9\n3 0 1 2\n"
BINARY = PLY.format("binary_little_endian").encode() + b"".join(
    struct.pack("<3fB", *point, 7) for point in POINTS) + struct.pack("<B3i", 3, 0, 1, 2)
WIDE = np.hstack([POINTS, np.ones((3, 3))])


@pytest.mark.parametrize(("name", "data"), [
    ("a.ply", TEXT.encode()), ("a.PLY", BINARY), ("a.xyz", b"0 .5 1\n2 -1 .25 9 9\n1 1 1 # last\n"),
    ("a.txt", b"3\n0,0.5,1\n2,-1,0.25\n1,1,1\n"), ("a.pts", b"0;.5;1\n2;-1;.25\n1;1;1\n"), ("a.npy", npy(POINTS)),
    ("a.npy", npy(POINTS.astype(">f4"))), ("a.npy", npy(WIDE.astype("f4"))), ("a.npy", npy(np.asfortranarray(WIDE))),
    ("a.npy", npy(POINTS, (2, 0))), ("a.npy.gz", gzip.compress(npy(POINTS))), ("a.ply.gz", gzip.compress(BINARY)),
])
def test_the_points_of_a_file(tmp_path: Path, name: str, data: bytes):
    (tmp_path / name).write_bytes(data)
    cloud = read_points(tmp_path / name)
    np.testing.assert_array_equal(cloud.vertices, POINTS)
    np.testing.assert_array_equal(cloud.faces, [[0] * 3, [1] * 3, [2] * 3])


def test_whole_numbers_and_truth_values_are_numbers(tmp_path: Path):
    for dtype in ("i2", "u8", "bool", "f2"):
        np.save(tmp_path / "a.npy", np.eye(3).astype(dtype))
        np.testing.assert_array_equal(read_points(tmp_path / "a.npy").vertices, np.eye(3))


def test_faces_make_a_surface_of_a_mesh_and_none_of_a_point_cloud(tmp_path: Path):
    path = tmp_path / "a.ply"
    path.write_bytes(BINARY)
    sizes = [len(Off3DPicture(shape, 30).voxelize(30).coordinates) for shape in (read_mesh(path), read_points(path))]
    assert sizes[0] > 100 and sizes[1] == 3


@pytest.mark.parametrize(("name", "data", "message"), [
    ("a.npy", b"", "the file is empty"), ("a.off", b"OFF", "a point cloud ends in .ply, .xyz, .npy, .txt, .pts, .asc"),
    ("a", b"1 2 3", "this name has no ending"), ("a.npy", b"1 2 3\n", "it is not an array of NumPy"),
    ("a.npy", npy(POINTS)[:100], "its header is damaged"), ("a.npy", npy(POINTS)[:-1], "than its 199 bytes can hold"),
    ("a.npy", npy(POINTS.ravel()), r"shape \(9,\), expected \(n, 3\)"),
    ("a.npy", npy(POINTS[:, :2]), r"shape \(3, 2\), expected \(n, 3\)"), ("a.npy", npy(POINTS[:0]), "no face and no"),
    ("a.npy", npy(POINTS + 1j), "it holds .*<c16.*, expected truth values or real numbers"),
    ("a.npy", npy(np.array([["a", "b", "c"]])), "it holds .*<U1.*, expected"),
    ("a.npy", npy(np.zeros(2, [("x", "f8")])), "it holds .* expected truth values"),
    ("a.npy", npy(np.where(POINTS > 1, np.nan, POINTS)), "vertex 1 is .* every vertex must be finite"),
    ("a.npy", npy(POINTS).replace(b"(3, 3)", b"(9**"), "its header is damaged"),
    ("a.npy", npy(POINTS).replace(b"(3, 3), }  ", b"(3, 99999)}"), "more than its 200 bytes can hold"),
    ("a.npy", npy(POINTS).replace(b"(3, 3), } ", b"(-3, -3)} "), r"declares an array of shape \(-3, -3\)"),
    ("a.npy", npy(POINTS).replace(b"(3, 3), }" + b" " * 21, b"(9" + b"9" * 24 + b",)}"), r"array of shape \(9999"),
    ("a.npy", npy(POINTS).replace(b"NUMPY\x01", b"NUMPY\x09"), "it has version 9.0 of NPY"),
    ("a.npy", npy(np.array([[{}] * 3], object)), r"it holds .*\|O"),
    ("a.xyz", b"1 2\n", "a line is '1 2', expected x y z"), ("a.xyz", b"1 2 x\n", "expected a number, got 'x'"),
    ("a.ply", TEXT.replace("vertex 3", "vertices 3").encode(), "it has no element 'vertex'"),
    ("a.ply.gz", b"nothing", "it cannot be decompressed by gzip"),
])
def test_what_is_no_point_cloud_is_refused_in_one_line(tmp_path: Path, name: str, data: bytes, message: str):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(MeshError, match=message) as raised:
        read_points(tmp_path / name)
    assert str(raised.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(raised.value)
