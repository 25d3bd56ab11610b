"""glTF and GLB: each triangle where its scene places it, or an error with the true reason."""

from __future__ import annotations

import base64
import copy
import json
import time

import numpy as np
import pytest
from campaign.seeds import SQUARE, TRIANGLES, glb, scene, scene_bytes

from sparsenet.shapes import MeshError, read_mesh
from sparsenet.shapes.gltf import parse_glb, parse_gltf

ONE = {"attributes": {"POSITION": 0}, "indices": 1}


def read(document: dict, binary: bytes | None = None):
    return parse_glb(glb(document, scene_bytes() if binary is None else binary))


def changed(document: dict, *path, to) -> dict:
    """A copy of the document with another value at the path; None removes it."""
    document = copy.deepcopy(document)
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    if to is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return document


PLAIN = scene({"mesh": 0})


def test_the_triangles_of_a_plain_scene():
    mesh = read(PLAIN)
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    np.testing.assert_array_equal(mesh.faces, TRIANGLES)


def test_nodes_are_scaled_then_turned_then_moved_within_their_parents():
    half = np.sqrt(0.5)  # a quarter turn about z, of any length
    parent = {"translation": [10, 0, 0], "children": [1]}
    child = {"mesh": 0, "translation": [0, 0, 5], "rotation": [0, 0, 2 * half, 2 * half], "scale": [1, 2, 3]}
    document = changed(scene(parent, child), "scenes", 0, "nodes", to=[0])
    expected = np.column_stack([-2 * SQUARE[:, 1] + 10, SQUARE[:, 0], 3 * SQUARE[:, 2] + 5])
    np.testing.assert_allclose(read(document).vertices, expected, atol=1e-12)


def test_a_matrix_is_stored_by_columns():
    matrix = [0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 7, 8, 9, 1]
    expected = np.column_stack([-SQUARE[:, 1] + 7, SQUARE[:, 0] + 8, SQUARE[:, 2] + 9])
    np.testing.assert_array_equal(read(scene({"mesh": 0, "matrix": matrix})).vertices, expected)


def test_instances_are_at_their_positions():
    places = np.array([[0, 0, 0], [5, 0, 0], [0, 7, 0]])
    turns = np.array([[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    extension = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 2, "ROTATION": 3}}}
    document = scene({"mesh": 0, "translation": [0, 0, 1], "extensions": extension})
    document["accessors"] += [{"bufferView": 2, "componentType": 5126, "type": "VEC3", "count": 3},
                              {"bufferView": 3, "componentType": 5120, "normalized": True, "type": "VEC4", "count": 3}]
    document["bufferViews"] += [{"buffer": 0, "byteOffset": 72, "byteLength": 36},
                                {"buffer": 0, "byteOffset": 108, "byteLength": 12}]
    document["buffers"][0]["byteLength"] = 120
    document["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    mesh = read(document, scene_bytes() + places.astype("<f4").tobytes() + (turns * 127).astype("i1").tobytes())
    flipped = SQUARE * (-1, -1, 1)
    expected = np.concatenate([SQUARE, flipped + (5, 0, 0), SQUARE + (0, 7, 0)]) + (0, 0, 1)
    np.testing.assert_allclose(mesh.vertices, expected, atol=1e-12)
    assert len(mesh.faces) == 12


@pytest.mark.parametrize(("kind", "component", "normalized", "stored", "expected"), [
    ("<i2", 5122, True, [[32767, -32767, -32768]], [1, -1, -1]),
    ("<u2", 5123, True, [[65535, 0, 13107]], [1, 0, 0.2]),
    ("i1", 5120, True, [[127, -127, -128]], [1, -1, -1]),
    ("u1", 5121, True, [[255, 0, 51]], [1, 0, 0.2]),
    ("<i2", 5122, False, [[300, -5, 0]], [300, -5, 0]),
    ("u1", 5121, False, [[255, 1, 0]], [255, 1, 0]),
])
def test_quantized_positions_are_decoded(kind, component, normalized, stored, expected):
    rows = np.zeros((4, 4), kind)  # rows begin at multiples of four bytes
    rows[:, :3] = stored
    accessor = {"bufferView": 2, "componentType": component, "type": "VEC3", "count": 4, "normalized": normalized}
    document = changed(PLAIN, "accessors", 0, to=accessor)
    document["bufferViews"].append({"buffer": 0, "byteOffset": 72, "byteLength": rows.nbytes,
                                    "byteStride": rows.strides[0]})
    document["buffers"][0]["byteLength"] = 72 + rows.nbytes
    document["extensionsRequired"] = ["KHR_mesh_quantization"]
    np.testing.assert_allclose(read(document, scene_bytes() + rows.tobytes()).vertices[0], expected)


@pytest.mark.parametrize("base", [True, False])
def test_sparse_accessors_change_single_values(base):
    document = copy.deepcopy(PLAIN)
    document["accessors"][0]["sparse"] = {"count": 1, "indices": {"bufferView": 2, "componentType": 5121},
                                          "values": {"bufferView": 3}}
    if not base:
        del document["accessors"][0]["bufferView"]
    document["bufferViews"] += [{"buffer": 0, "byteOffset": 72, "byteLength": 1},
                                {"buffer": 0, "byteOffset": 76, "byteLength": 12}]
    document["buffers"][0]["byteLength"] = 88
    binary = scene_bytes() + b"\2\0\0\0" + np.array([7, 8, 9], "<f4").tobytes()
    expected = SQUARE * base
    expected[2] = [7, 8, 9]
    np.testing.assert_array_equal(read(document, binary).vertices, expected)


@pytest.mark.parametrize(("mode", "faces"), [
    (4, [[0, 1, 2], [0, 2, 3]]), (5, [[0, 1, 2], [2, 1, 0], [2, 0, 2], [2, 0, 3]]),
    (6, [[0, 1, 2], [0, 2, 0], [0, 0, 2], [0, 2, 3]])])
def test_lists_strips_and_fans(mode, faces):
    document = scene({"mesh": 0}, primitive={**ONE, "mode": mode})
    document["accessors"][1].update(count=6)
    binary = SQUARE.astype("<f4").tobytes() + np.array([0, 1, 2, 0, 2, 3], "<u2").tobytes() + b"\0" * 12
    assert read(document, binary).faces.tolist() == faces


def test_a_primitive_may_have_no_indices():
    document = scene({"mesh": 0}, primitive={"attributes": {"POSITION": 0}})
    assert read(document).faces.tolist() == [[0, 1, 2]]


def test_points_and_lines_beside_triangles_are_passed_over():
    document = copy.deepcopy(PLAIN)
    document["meshes"][0]["primitives"] += [{**ONE, "mode": 0}, {**ONE, "mode": 1}]
    assert len(read(document).faces) == 4


@pytest.mark.parametrize("name", ["KHR_materials_unlit", "KHR_texture_transform", "EXT_texture_webp",
                                  "KHR_lights_punctual"])
def test_extensions_of_colour_and_light_may_be_required(name):
    assert len(read({**PLAIN, "extensionsRequired": [name]}).faces) == 4


@pytest.mark.parametrize(("document", "message"), [
    ({**PLAIN, "extensionsRequired": ["KHR_draco_mesh_compression"]}, "requires KHR_draco_mesh_compression, which"),
    ({**PLAIN, "extensionsRequired": ["EXT_meshopt_compression", "VENDOR_x"]}, "EXT_meshopt_compression, VENDOR_x"),
    (changed(PLAIN, "accessors", 0, "bufferView", to=None), "accessor 0 has no bytes in this file"),
    (changed(PLAIN, "buffers", 0, to={"byteLength": 72, "uri": "a.bin"}), "buffer 0 is in another file, 'a.bin'"),
    (changed(PLAIN, "scenes", to=None), "it has no scene"),
    (changed(PLAIN, "scene", to=3), "an entry beyond the end of a list"),
    (changed(PLAIN, "nodes", 0, to={}), "its scene contains no face"),
    (scene({"mesh": 0}, primitive={**ONE, "mode": 1}), "its scene contains only lines"),
    (scene({"mesh": 0, "children": [0]}), "node 0 has more than one parent"),
    (scene({"mesh": 0, "rotation": [0, 0, 0, 0]}), "the quaternion 0"),
    (scene({"mesh": 0, "scale": [1, "x", 1]}), "a value of a type that glTF does not allow"),
    (scene({"mesh": 0, "matrix": [1, 2]}), "a node's matrix is .*expected 16 numbers"),
    (changed(PLAIN, "accessors", 0, "count", to=5), "accessor 0 declares 5 values, more than the 48 bytes"),
    (changed(PLAIN, "accessors", 0, "count", to=-1), "count '-1', expected a whole number"),
    (changed(PLAIN, "accessors", 0, "count", to=4_000_000_000), "accessors declare more than 4000000000 values"),
    (changed(PLAIN, "accessors", 0, "count", to=None), "lacks .*count"),
    (changed(PLAIN, "accessors", 0, "type", to="VEC2"), "accessor 0 is VEC2, expected VEC3"),
    (changed(PLAIN, "accessors", 0, "componentType", to=9), "accessor 0 has componentType 9"),
    (changed(PLAIN, "accessors", 1, "componentType", to=5122), "expected unsigned integers for indices"),
    (changed(PLAIN, "bufferViews", 0, "byteLength", to=99), "ends at byte 99 of a buffer of 72"),
    (changed(PLAIN, "buffers", 0, "byteLength", to=99), "buffer 0 declares 99 bytes, there are 72"),
    (changed(PLAIN, "meshes", 0, "primitives", 0, "attributes", to={}), "not stored plainly"),
    ([1], "its JSON is a list, expected an object"),
])
def test_what_is_wrong_is_said(document, message):
    with pytest.raises(MeshError, match=message) as raised:
        read(document)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


@pytest.mark.parametrize(("data", "message"), [
    (b"glTF", "does not start with 'glTF'"),
    (glb(PLAIN)[:40], "declares .* bytes of JSON, the file has 40"),
    (glb(PLAIN, scene_bytes())[:-4], "truncated"),
    (b"glTF\1\0\0\0" + glb(PLAIN)[8:], "a GLB of version 1"),
    (glb(PLAIN).replace(b"{", b"[", 1), "its JSON cannot be read"),
    (glb(PLAIN).replace(b"nodes", b"n\xffdes"), "its JSON is not UTF-8"),
    (b"glTF\2\0\0\0\0\0\0\0\x40\x0d\x03\0JSON" + b"[" * 200_000, "a type that glTF does not allow"),
])
def test_a_container_that_is_broken(data, message):
    with pytest.raises(MeshError, match=message):
        parse_glb(data)


def test_buffers_within_the_document():
    address = "data:application/octet-stream;base64," + base64.b64encode(scene_bytes()).decode()
    document = changed(PLAIN, "buffers", 0, "uri", to=address)
    assert len(parse_gltf(json.dumps(document).encode()).faces) == 4
    with pytest.raises(MeshError, match="not base64"):
        parse_gltf(json.dumps(changed(document, "buffers", 0, "uri", to=address[:-1])).encode())


def gltf(folder, address: str, size: int = 72):
    path = folder / "a.gltf"
    path.write_text(json.dumps(changed(PLAIN, "buffers", 0, to={"byteLength": size, "uri": address})))
    return path


def test_buffers_in_the_folder_of_the_document(tmp_path):
    (tmp_path / "in ner").mkdir()
    (tmp_path / "in ner" / "a.bin").write_bytes(scene_bytes())
    for address in ("in%20ner/a.bin", "in ner/a.bin", "./in ner/a.bin"):
        assert len(read_mesh(gltf(tmp_path, address)).faces) == 4
    data = glb(changed(PLAIN, "buffers", 0, "uri", to="in ner/a.bin"))
    (tmp_path / "a.glb").write_bytes(data)
    assert len(read_mesh(tmp_path / "a.glb").faces) == 4


def test_nothing_out_of_the_folder_is_read(tmp_path):
    folder = tmp_path / "meshes"
    folder.mkdir()
    (tmp_path / "a.bin").write_bytes(scene_bytes())
    (folder / "link.bin").symlink_to(tmp_path / "a.bin")
    (folder / "links").symlink_to(tmp_path)
    for address in ("../a.bin", "%2e%2e/a.bin", "x/../../a.bin", "..\\a.bin", str(tmp_path / "a.bin"),
                    f"file://{tmp_path}/a.bin", "https://example.org/a.bin", "//example.org/a.bin", "C:\\a.bin"):
        with pytest.raises(MeshError, match="only files in the folder of the mesh are read"):
            read_mesh(gltf(folder, address))
    for address in ("link.bin", "links/a.bin"):
        with pytest.raises(MeshError, match="a link out of the folder of the mesh"):
            read_mesh(gltf(folder, address))


def test_a_buffer_that_is_not_there_or_lies(tmp_path):
    (tmp_path / "round.bin").symlink_to(tmp_path / "round.bin")
    for address in ("none.bin", ".", "x" * 300, "round.bin"):
        with pytest.raises(MeshError, match="which does not exist|cannot be read"):
            read_mesh(gltf(tmp_path, address))
    (tmp_path / "a.bin").write_bytes(scene_bytes())
    with pytest.raises(MeshError, match=f"buffer 0 declares {2**50} bytes, there are 72"):
        read_mesh(gltf(tmp_path, "a.bin", 2**50))


def test_200_000_instances_are_placed_in_seconds():
    document = scene(*[{"mesh": 0}] * 200_000)
    began = time.process_time()
    assert len(read(document).faces) == 800_000
    assert time.process_time() - began < 10


def test_100_000_primitives_are_read_in_seconds():
    document = copy.deepcopy(PLAIN)
    document["meshes"][0]["primitives"] = [ONE] * 100_000
    began = time.process_time()
    assert len(read(document).faces) == 400_000
    assert time.process_time() - began < 10


def test_more_repetition_than_the_size_justifies_is_refused():
    large = np.zeros((30_000, 3), "<f4")
    document = scene(*[{"mesh": 0}] * 5000, primitive={"attributes": {"POSITION": 0}})
    document["accessors"][0]["count"] = len(large)
    document["bufferViews"][0]["byteLength"] = document["buffers"][0]["byteLength"] = large.nbytes
    with pytest.raises(MeshError, match="places more than [0-9]+ vertices and triangles by repeating its meshes"):
        read(document, large.tobytes())


def test_overlapping_accessors_are_not_read_beyond_what_the_size_justifies():
    large = np.zeros((30_000, 3), "<f4")
    document = scene({"mesh": 0})
    accessor = {"bufferView": 0, "componentType": 5126, "type": "VEC3", "count": len(large)}
    document["accessors"] = [accessor] * 3000
    document["meshes"][0]["primitives"] = [{"attributes": {"POSITION": row}} for row in range(3000)]
    document["bufferViews"][0]["byteLength"] = document["buffers"][0]["byteLength"] = large.nbytes
    with pytest.raises(MeshError, match="the limit for a file of"):
        read(document, large.tobytes())
