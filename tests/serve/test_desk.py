"""A worker's answers to meshes, and those that it refuses."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from command_line import ENVIRONMENT
from mesh_files import mesh_of, write_off

import sparsenet as sn
from sparsenet.models import embed_folder, search_folder
from sparsenet.serve.desk import Place
from sparsenet.serve.drawing import packed_cells
from sparsenet.shapes import MeshError

MANY = b"OFF\n3 5001 0\n0 0 0\n1 0 0\n0 1 0\n" + b"3 0 1 2\n" * 5001


@pytest.fixture(scope="module")
def net():
    return sn.load_pretrained("modelnet40")


def test_a_query_is_what_a_search_of_the_folder_finds(desk, gallery, meshes, query, net, monkeypatch):
    monkeypatch.setenv("SPARSENET_CACHE", str(meshes.parent / "cache"))
    answer = desk.search(query, None)
    ranked = gallery.ranked(answer["vector"])
    order = np.frombuffer(base64.b64decode(ranked["order"]), "<u4")
    distances = np.frombuffer(base64.b64decode(ranked["distances"]), "<f4")
    found = search_folder(net, embed_folder(net, meshes, progress=False), meshes.parent / "query.off", 12)
    assert [gallery.names[row] for row in order] == found.names and found.names[0].startswith("chairs/")
    np.testing.assert_allclose(distances, found.distances, rtol=1e-6)
    expected = sn.classify(net, meshes.parent / "query.off", turns=3)
    assert [name for name, _ in answer["classes"]] == expected.classes[:5]
    np.testing.assert_allclose([p for _, p in answer["classes"]], expected.probabilities[:5])
    cells = net.voxelization.voxelize(net.voxelization.read(meshes.parent / "query.off"), net.field).coordinates
    assert answer["voxels"] == packed_cells(cells) and answer["format"] == "OFF" and answer["up"] == "z"


def test_a_shape_finds_itself_at_no_distance(desk, gallery, meshes):
    for row in (0, 5):
        vector = desk.search((meshes / gallery.names[row]).read_bytes(), None)["vector"]
        assert np.array_equal(vector, gallery.vectors[row])  # the same bits
        ranked = gallery.ranked(vector)
        assert np.frombuffer(base64.b64decode(ranked["order"]), "<u4")[0] == row
        assert np.frombuffer(base64.b64decode(ranked["distances"]), "<f4")[0] < 1e-6


def test_the_up_axis_is_asked_for_or_told_by_the_format(desk, query):
    vertices = mesh_of("chair", 77).vertices
    turned = np.stack([vertices[:, 0], vertices[:, 2], -vertices[:, 1]], axis=1)  # y up
    lines = [*("v " + " ".join(map(repr, map(float, v))) for v in turned),
             *("f " + " ".join(str(k + 1) for k in f) for f in mesh_of("chair", 77).faces)]
    obj = "\n".join(lines).encode()
    upright = desk.search(query, None)
    for axis, same in ((None, True), ("auto", True), ("y", True), ("z", False)):
        assert (desk.search(obj, axis)["voxels"] == upright["voxels"]) is same


def test_compressed_files_are_read(desk, query):
    assert desk.search(gzip.compress(query), None)["voxels"] == desk.search(query, None)["voxels"]


def glb(document):
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    return b"glTF" + struct.pack("<III4s", 2, 20 + len(text), len(text), b"JSON") + text


def scene(**buffer):
    return {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}], "buffers": [buffer],
            "bufferViews": [{"buffer": 0, "byteLength": 36}],
            "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}]}


@pytest.mark.parametrize(("data", "message"), [
    (gzip.compress(bytes(2**21), mtime=0), "more than 1048576 bytes"),
    (gzip.compress(gzip.compress(b"OFF", mtime=0), mtime=0), "compressed twice"),
    (gzip.compress(b"OFF\n3 1 0\n", mtime=0)[:-9], "too early"), (b"\x1f\x8b\x08nonsense", "gzip"),
    (b"OFF\n999999999999 999999999999 0\n", "more than"), (bytes(80) + struct.pack("<I", 2**31) + bytes(60), "none of"),
    (b"PK\x03\x04", "ZIP"), (MANY, "5,001 triangles, the limit is 5,000"), (b"", "empty"), (b"{" * 200_000, "JSON"),
    (json.dumps(scene(byteLength=36, uri="../../../../etc/passwd")).encode(), "only files in the folder"),
    (json.dumps(scene(byteLength=36, uri="chair_0.off")).encode(), "is in another file"),
    (json.dumps(scene(byteLength=36, uri="file:///etc/passwd")).encode(), "only files in the folder"),
    (glb(scene(byteLength=36, uri="http://example.com/a.bin")), "only files in the folder"),
    (glb(scene(byteLength=2**40)), "neither a URI nor bytes"),
    (b"OFF\n3 1 0\nnan 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "finite"),
    (b"ply\nformat binary_little_endian 1.0\nelement vertex 2000000000\nproperty float x\nproperty float y\n"
     b"property float z\nend_header\n", "declare"),
])
def test_hostile_files_are_refused_in_a_line(desk, data, message):
    with pytest.raises(MeshError, match=message) as refused:
        desk.search(data, None)
    assert "\n" not in str(refused.value)


def test_shapes_of_the_gallery_are_drawn(desk, gallery, meshes, tmp_path):
    place = gallery.places[0]
    shape = desk.shape(place)
    assert shape["voxels"] == desk.voxels(place) and shape["faces"] == len(sn.shapes.read_mesh(place.path).faces)
    copy = write_off(tmp_path / "gone.off", mesh_of("chair"))
    assert desk.voxels(Place(str(copy)))["count"] > 100
    copy.write_text("OFF\n3 1 0\n")
    with pytest.raises(MeshError, match="^the header declares"):
        desk.voxels(Place(str(copy)))
    copy.unlink()
    with pytest.raises(FileNotFoundError):
        desk.voxels(Place(str(copy)))


@pytest.mark.extra("inspect")
def test_the_inspector_page_of_a_shape(desk, gallery):
    page = desk.inspector(gallery.places[0], "bottle_0.off <seen>")
    assert page.startswith("<!DOCTYPE html>") and "bottle_0.off &lt;seen&gt;" in page


@pytest.mark.extra("inspect")
def test_the_inspector_page_of_a_mesh_that_was_sent(desk, gallery, meshes):
    data = (meshes / gallery.names[0]).read_bytes()
    assert desk.inspector_of_sent(data, None, "one") == desk.inspector(gallery.places[0], "one")
    assert desk.inspector_of_sent(gzip.compress(data), "z", "one") == desk.inspector(gallery.places[0], "one")
    with pytest.raises(MeshError, match="5,001 triangles, the limit is 5,000"):
        desk.inspector_of_sent(MANY, None, "one")


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is limited on Linux alone")
def test_a_worker_cannot_take_all_memory():
    program = ("from sparsenet.serve.desk import _limit_memory; _limit_memory(2**28); bytearray(2**26)\n"
               "try: bytearray(2**29)\nexcept MemoryError: print('refused')")
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "refused\n", done.stderr
