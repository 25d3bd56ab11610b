"""Reading mesh files: geometry or one clear line of error for any file."""

from __future__ import annotations

import gzip
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from campaign.seeds import glb, made_files, scene

from sparsenet.shapes import Mesh, MeshError, read_mesh, reading
from sparsenet.shapes.reading import up_axis_of

REQUIRED = ("numpy", "numba", "llvmlite", "h5py", "tqdm", "threadpoolctl", "sparsenet")
# Concave faces, whose areas are of their polygons
CONCAVE = {"PyMesh_PyMesh_tests_data_star.obj": 1.24857812, "mikedh_trimesh_models_polygonfaces.obj": 1162570.385,
           "pmp-library_pmp-library_data_off_L.off": 3,
           "assimp_assimp_test_models_OBJ_space_in_material_name.obj": 0.2454966872}
# Files that hold no surface, or are broken, by what the reader says
REFUSED = {
    "PyMesh_PyMesh_tests_data_empty.obj": "empty",
    "PyMesh_PyMesh_tests_data_empty.ply": "no face and no point",
    "PyMesh_PyMesh_tests_data_polygon.obj": "a vertex is 'v 0.0 0.0', expected v and three numbers",
    "PyMesh_PyMesh_tests_data_quad_s1.obj": "expected v and three numbers",
    "assimp_assimp_test_models_OBJ_testline.obj": "no face",
    "assimp_assimp_test_models_OBJ_testpoints.obj": "no face",
    "assimp_assimp_test_models_invalid_crash-30d6d0f7c529b3b66b4131700b7a4580cd7082df.ply": "header has no end",
    "assimp_assimp_test_models_invalid_empty.off": "empty",
    "assimp_assimp_test_models_invalid_malformed.obj": "refers to vertex 12, there are 8",
    "mikedh_trimesh_models_empty.ply": "no face",
    "mikedh_trimesh_models_emptyIO_obj_empty.obj": "no face",
    "mikedh_trimesh_models_emptyIO_obj_wireframe.obj": "no face",
    "mikedh_trimesh_models_emptyIO_ply_empty_bin.ply": "no face",
    "mikedh_trimesh_models_emptyIO_stl_empty_ascii.stl": "no face",
    "mikedh_trimesh_models_face_in_group_name.obj": "no face",
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


def test_concave_faces_have_the_area_of_their_polygons(data_root):
    for name, area in CONCAVE.items():
        mesh = read_mesh(data_root / "odd_meshes" / name)
        corners = mesh.vertices[mesh.faces]
        doubled = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        assert doubled.sum() / 2 == pytest.approx(area, rel=1e-8)


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


def test_obj_lines_may_be_indented_and_continued(tmp_path):
    text = "v 0 0 0\n  v 1 0 0\n\tv\t0 1 0\nv 0 0 1\n f 1 2 \\\n3\nf\t1 2 4\n"
    mesh = read_mesh(write(tmp_path, "indented.obj", text))
    assert len(mesh.faces) == 2 and len(mesh.vertices) == 4


def test_unused_vertices_are_left_out(tmp_path):
    mesh = read_mesh(write(tmp_path, "a.off", "OFF\n4 1 0\n9 9 9\n0 0 0\n1 0 0\n0 1 0\n3 1 2 3\n"))
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]] and mesh.faces.tolist() == [[0, 1, 2]]


PLY = "ply\nformat {}\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n" \
      "element face {}\nproperty list uchar int vertex_indices\nend_header\n"


@pytest.mark.parametrize(("name", "data", "message"), [
    ("cut.ply", PLY.format("ascii 1.0", 3, 1)[:60], "its header has no end"),
    ("lie.stl", b"\0" * 80 + struct.pack("<I", 2**32 - 1) + b"\0" * 50, "its size is not that"),
    ("nan.stl", b"\0" * 80 + struct.pack("<I12fH", 1, *[0.0] * 11, np.nan, 0), "must be finite"),
    ("inf.glb", glb(scene({"mesh": 0}), np.full(12, np.inf, "<f4").tobytes() + b"\0" * 24), "must be finite"),
    ("far.glb", glb(scene({"mesh": 0, "scale": [1e308] * 3, "translation": [1e308] * 3}), np.ones(12, "<f4").tobytes()
                    + np.arange(12, dtype="<u2").clip(0, 3).tobytes()), "must be finite"),
    ("back.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 -4\n", "refers to vertex -4, 3 are before it"),
    ("cut.glb", b"glTF", "header of the GLB"),
    ("void.glb", glb({"asset": {"version": "2.0"}}), "no scene"),
    ("blank.off", " \n\n", "the file is empty"),
    ("picture.png.gz", b"\x1f\x8b", "not in '.png'"),
    ("gz.gz", b"\x1f\x8b", "this name has no ending"),
    ("picture.png", b"\x89PNG", "a mesh file ends in .off, .* each also with .gz, not in '.png'"),
    ("bare", b"OFF", "this name has no ending"),
])
def test_what_is_wrong_is_said_in_one_line_with_the_files_name(tmp_path, name, data, message):
    path = write(tmp_path, name, data)
    with pytest.raises(MeshError, match=message) as raised:
        read_mesh(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_what_is_not_there_or_a_folder_is_said_before_its_name_is_judged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_mesh(tmp_path / "scans")
    with pytest.raises(IsADirectoryError):
        read_mesh(tmp_path)


@pytest.mark.parametrize(("name", "axis"), [
    ("a.obj", "y"), ("A.GLB", "y"), ("a.gltf", "y"), ("a.off", "z"), ("a.stl", "z"), ("a.ply", "z"),
    ("a.obj.gz", "y"), ("a.glb.off", "z"), ("obj", "z")])
def test_the_axis_that_points_up_is_known_by_the_format(name, axis):
    assert up_axis_of(Path("folder") / name) == axis


@pytest.mark.parametrize("name", sorted(made_files()))
def test_every_made_file_reads_the_same_packed(tmp_path, name):
    data = made_files()[name]
    mesh = read_mesh(write(tmp_path, name, data))
    plain = write(tmp_path, f"{name}.GZ", gzip.compress(data)) if not name.endswith(".gz") else tmp_path / name
    np.testing.assert_array_equal(read_mesh(plain).vertices[read_mesh(plain).faces], mesh.vertices[mesh.faces])
    if not name.endswith(".gz"):
        halves = gzip.compress(data[:20]) + gzip.compress(data[20:]) + b"\0" * 8
        np.testing.assert_array_equal(read_mesh(write(tmp_path, f"halves.{name}.gz", halves)).faces, mesh.faces)


def test_what_a_packed_file_may_unpack_to_is_limited(tmp_path):
    bomb = gzip.compress(b"OFF\n" + b"\0" * (2**26 + 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MeshError, match=f"decompresses to more than {2**26} bytes, the limit .* of {len(bomb)}"):
        read_mesh(write(tmp_path, "bomb.off.gz", bomb))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # kilobytes: a quarter of a gigabyte
    packed = gzip.compress(made_files()["triangles.off"])
    for data, message in ((packed[:-9], "end too early"), (b"OFF\n", "cannot be decompressed by gzip"),
                          (packed + b"more", "cannot be decompressed by gzip"), (b"", "the file is empty")):
        with pytest.raises(MeshError, match=message):
            read_mesh(write(tmp_path, "a.off.gz", data))


def test_too_little_memory_is_said(tmp_path, monkeypatch):
    def greedy(data):
        raise MemoryError

    monkeypatch.setitem(reading._READERS, ".off", greedy)
    with pytest.raises(MeshError, match="a.off: there is not enough memory to read it"):
        read_mesh(write(tmp_path, "a.off", "OFF\n"))


def test_a_missing_file_is_the_file_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_mesh(tmp_path / "nothing.off")
