"""Reading mesh files: geometry or one clear line, whatever the file."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from sparsenet.shapes import Mesh, MeshError, read_mesh
from sparsenet.shapes.reading import up_axis_of

REQUIRED = ("numpy", "numba", "llvmlite", "h5py", "trimesh", "tqdm", "threadpoolctl", "sparsenet")
# Files that hold no surface, or are broken, by what the reader says
REFUSED = {
    "PyMesh_PyMesh_tests_data_empty.obj": "empty",
    "PyMesh_PyMesh_tests_data_empty.ply": "no face",
    "PyMesh_PyMesh_tests_data_polygon.obj": "vertices have shape",
    "PyMesh_PyMesh_tests_data_quad_s1.obj": "vertices have shape",
    "assimp_assimp_test_models_OBJ_testline.obj": "no face",
    "assimp_assimp_test_models_OBJ_testpoints.obj": "no face",
    "assimp_assimp_test_models_PLY_points.ply": "no face",
    "assimp_assimp_test_models_invalid_crash-30d6d0f7c529b3b66b4131700b7a4580cd7082df.ply": "header has no end",
    "assimp_assimp_test_models_invalid_empty.off": "empty",
    "assimp_assimp_test_models_invalid_malformed.obj": "refers to vertex 0",
    "mikedh_trimesh_models_empty.ply": "no face",
    "mikedh_trimesh_models_emptyIO_obj_empty.obj": "no face",
    "mikedh_trimesh_models_emptyIO_obj_wireframe.obj": "no face",
    "mikedh_trimesh_models_emptyIO_ply_empty_bin.ply": "no face",
    "mikedh_trimesh_models_emptyIO_ply_points_ascii.ply": "no face",
    "mikedh_trimesh_models_emptyIO_stl_empty_ascii.stl": "no face",
    "mikedh_trimesh_models_face_in_group_name.obj": "no face",
    "mikedh_trimesh_models_points_ascii_with_lists.ply": "no face",
    "mikedh_trimesh_models_points_emptyascii.ply": "no face",
    "ceteke_pointnet_bathtub_0001.off": "neither the word OFF",  # vertices alone, no header
}


def tetrahedron() -> trimesh.Trimesh:
    return trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3.5]],
                           [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]], process=False)


def write(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def triangles(mesh: Mesh) -> np.ndarray:
    """The triangles' corners, in an order that does not depend on how vertices are numbered."""
    corners = np.sort(mesh.vertices[mesh.faces].view("f8,f8,f8")[..., 0], axis=1)
    return np.sort(corners, axis=0).view("f8").reshape(-1, 9)


@pytest.mark.parametrize("file_type", ["off", "obj", "ply", "stl", "glb", "ply-ascii", "stl_ascii"])
def test_each_format_gives_the_triangles(tmp_path, file_type):
    form = {"ply-ascii": {"file_type": "ply", "encoding": "ascii"}}.get(file_type, {"file_type": file_type})
    path = write(tmp_path, f"Mesh.{file_type[:3].upper()}", tetrahedron().export(**form))
    mesh = read_mesh(path)
    assert mesh.vertices.dtype == np.float64 and mesh.faces.dtype == np.int32
    np.testing.assert_array_equal(triangles(mesh), triangles(Mesh(tetrahedron().vertices, tetrahedron().faces)))


def test_every_odd_file_gives_geometry_or_one_clear_line(data_root):
    files = sorted([*(data_root / "odd_meshes").iterdir(), *(data_root / "modelnet_off").iterdir()])
    assert len(files) == 139 + 43
    refused, before = {}, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in files:
        try:
            mesh = read_mesh(path)
            assert len(mesh.faces) and mesh.faces.max() < len(mesh.vertices) and np.isfinite(mesh.vertices).all()
        except MeshError as error:
            refused[path.name] = str(error)
    assert set(refused) == set(REFUSED)
    for name, message in refused.items():
        assert name in message and REFUSED[name] in message and "\n" not in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # kilobytes: half a gigabyte


def test_the_glued_header_gives_the_same_mesh_as_the_plain_one(data_root):
    glued = read_mesh(data_root / "modelnet_off" / "sijia3_3D-shape-retrieval_model_bathtub_0001.off")
    folder = "zeaggler_ModelNet_OFF2MAT_ModelNet10_bathtub_train_bathtub_0001.off"
    np.testing.assert_array_equal(glued.vertices, read_mesh(data_root / "modelnet_off" / folder).vertices)


def test_own_off_reader_agrees_with_trimesh(data_root):
    for path in sorted((data_root / "psb" / "meshes").glob("*.off"))[::300]:
        expected = trimesh.load_mesh(path, process=False)
        own = read_mesh(path)
        np.testing.assert_array_equal(own.vertices[own.faces], np.array(expected.vertices)[expected.faces])


def test_nothing_but_the_required_packages_is_needed(data_root):
    names = ["mikedh_trimesh_models_fuze.obj", "mikedh_trimesh_models_fuze_ascii.ply",
             "assimp_assimp_test_models_OBJ_regr01.obj", "mikedh_trimesh_models_featuretype.ply",
             "mikedh_trimesh_models_multibody.stl", "libigl_libigl-tests-data_cube.off"]
    program = f"""
import sys
class Only:  # finds the standard library and what the package requires
    def __init__(self, finder): self.finder = finder
    def find_spec(self, name, *rest):
        top = name.partition('.')[0]
        if top in sys.stdlib_module_names or top in {REQUIRED} or top.startswith('_'):
            return self.finder.find_spec(name, *rest)
sys.meta_path[:] = [Only(finder) for finder in sys.meta_path]
from sparsenet.shapes import Off3DPicture
for path in sys.argv[1:]:
    assert len(Off3DPicture(path).voxelize(40).coordinates)
assert 'scipy' not in sys.modules and 'networkx' not in sys.modules
"""
    files = [str(data_root / "odd_meshes" / name) for name in names]
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, cwd=root,
                          env={**os.environ, "PYTHONPATH": str(root)})
    assert done.returncode == 0, done.stderr


def test_bodies_of_a_scene_are_merged_where_they_stand(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(tetrahedron(), geom_name="tetrahedron")
    turn = trimesh.transformations.rotation_matrix(0.5, [0, 0, 1]) @ np.diag([2, 2, 2, 1.0])
    move = trimesh.transformations.translation_matrix([5, 6, 7])
    scene.graph.update("again", geometry="tetrahedron", matrix=move @ turn)
    mesh = read_mesh(write(tmp_path, "scene.glb", scene.export(file_type="glb")))
    first = tetrahedron().vertices
    expected = np.concatenate([first, first @ turn[:3, :3].T + (5, 6, 7)])
    assert len(mesh.faces) == 8
    np.testing.assert_allclose(np.unique(mesh.vertices.round(5), axis=0), np.unique(expected.round(5), axis=0),
                               atol=2e-5)


def test_several_solids_of_one_stl_are_merged(tmp_path):
    text = trimesh.exchange.stl.export_stl_ascii(tetrahedron())
    assert len(read_mesh(write(tmp_path, "two.stl", text + "\n" + text)).faces) == 8


def test_obj_corners_counted_back_are_counted_from_the_latest_vertex(tmp_path):
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 5 0 0\nv 6 0 0\nv 5 1 0\nf -3//1 -2//1 -1//1 # latest\n"
    mesh = read_mesh(write(tmp_path, "relative.obj", text))
    assert sorted(mesh.vertices[mesh.faces][:, 0, 0].tolist()) == [0, 5]


def test_obj_lines_may_be_indented_and_continued(tmp_path):
    text = "v 0 0 0\n  v 1 0 0\n\tv\t0 1 0\nv 0 0 1\n f 1 2 \\\n3\nf\t1 2 4\n"
    mesh = read_mesh(write(tmp_path, "indented.obj", text))
    assert len(mesh.faces) == 2 and len(mesh.vertices) == 4


def test_unused_vertices_are_left_out(tmp_path):
    mesh = read_mesh(write(tmp_path, "a.off", "OFF\n4 1 0\n9 9 9\n0 0 0\n1 0 0\n0 1 0\n3 1 2 3\n"))
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]] and mesh.faces.tolist() == [[0, 1, 2]]


def glb(document: dict, data: bytes = b"") -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def glb_of(**accessor) -> bytes:
    return glb({"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
                "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
                "accessors": [{"componentType": 5126, "type": "VEC3", **accessor}],
                "bufferViews": [{"buffer": 0, "byteLength": 36}], "buffers": [{"byteLength": 36}]},
               np.eye(3, dtype="<f4").tobytes())


def test_a_hand_made_glb_is_read(tmp_path):
    assert len(read_mesh(write(tmp_path, "a.glb", glb_of(bufferView=0, count=3))).faces) == 1


PLY = "ply\nformat {}\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n" \
      "element face {}\nproperty list uchar int vertex_indices\nend_header\n"
STL = "solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 {} 0\nendloop\nendfacet\n"


@pytest.mark.parametrize(("name", "data", "message"), [
    ("lie.ply", PLY.format("binary_little_endian 1.0", 4_000_000_000, 1), "promises 4000000000 of vertex"),
    ("lie.ply", PLY.format("ascii 1.0", "9" * 5000, 1), "promises 999"),
    ("lie.ply", PLY.format("ascii 1.0", 3, 9) + "0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "promises 12 lines, there are 4"),
    ("lie.ply", PLY.format("ascii 1.0", 3, 1) + "0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "refers to vertex 7"),
    ("nan.ply", PLY.format("ascii 1.0", 3, 1) + "0 0 0\n1 0 0\n0 nan 0\n3 0 1 2\n", "must be finite"),
    ("cut.ply", PLY.format("ascii 1.0", 3, 1)[:60], "its header has no end"),
    ("lie.stl", b"\0" * 80 + struct.pack("<I", 2**32 - 1) + b"\0" * 50, "its size is not that"),
    ("cut.stl", STL.format(1), "1 bodies open with 'solid' and 0 end"),
    ("word.stl", STL.format("one") + "endsolid a\n", "1 of 3 vertices are not three numbers"),
    ("nan.stl", b"\0" * 80 + struct.pack("<I12fH", 1, *[0.0] * 11, np.nan, 0), "must be finite"),
    ("far.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4000000000\n", "4000000000|3999999999"),
    ("back.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 -4\n", "refers to vertex -4 after 3 vertices"),
    ("word.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\nf one 2 3\n", "refers to vertex 'one'"),
    ("word.obj", "v 0 0 0\nv 1 zero 0\nv 0 1 0\nf 1 2 3\n", "cannot be read as OBJ: ValueError"),
    ("nan.obj", "v 0 0 0\nv 1 0 0\nv 0 inf 0\nf 1 2 3\n", "must be finite"),
    ("lie.glb", glb_of(bufferView=0, count=4_000_000_000), "promises 4000000000 values"),
    ("lie.glb", glb_of(count=3), "vertices are packed"),
    ("cut.glb", b"glTF", "header of the GLB"),
    ("void.glb", glb({"asset": {"version": "2.0"}}), "no face"),
    ("blank.off", " \n\n", "the file is empty"),
    ("picture.png", b"\x89PNG", "a mesh file ends in .off, .obj, .ply, .stl, .glb, not '.png'"),
    ("bare", b"OFF", "not 'nothing'"),
])
def test_what_is_wrong_is_said_in_one_line_with_the_files_name(tmp_path, name, data, message):
    path = write(tmp_path, name, data)
    with pytest.raises(MeshError, match=message) as raised:
        read_mesh(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "axis"), [
    ("a.obj", "y"), ("A.GLB", "y"), ("a.gltf", "y"), ("a.off", "z"), ("a.stl", "z"), ("a.ply", "z")])
def test_the_axis_that_points_up_is_known_by_the_format(name, axis):
    assert up_axis_of(Path("folder") / name) == axis


def test_a_missing_file_is_the_file_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_mesh(tmp_path / "nothing.off")


@pytest.mark.parametrize("file_type", ["off", "obj", "ply", "stl", "glb", "stl_ascii"])
def test_files_cut_or_damaged_anywhere_do_not_crash(tmp_path, rng, file_type):
    data = tetrahedron().export(file_type=file_type)
    data = data if isinstance(data, bytes) else data.encode()
    for _ in range(150):
        damaged = bytearray(data[:rng.integers(1, len(data) + 1)] if rng.random() < 0.3 else data)
        for position in rng.integers(0, len(damaged), rng.integers(1, 6)):
            damaged[position] = rng.choice([rng.integers(256), *b"09-.\n f"])
        try:
            read_mesh(write(tmp_path, f"damaged.{file_type[:3]}", bytes(damaged)))
        except MeshError as error:
            assert "\n" not in str(error)
