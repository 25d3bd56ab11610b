"""Off3DPicture: from a path or a mesh to voxels."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from sparsenet.shapes import Mesh, MeshError, Off3DPicture

TEXT = "OFF4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"


def test_a_path_a_mesh_and_a_trimesh_give_the_same_voxels(tmp_path):
    path = tmp_path / "tetrahedron.off"
    path.write_text(TEXT)
    mesh = Off3DPicture(path).mesh
    pictures = [Off3DPicture(path), Off3DPicture(str(path)), Off3DPicture(mesh),
                Off3DPicture(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False))]
    voxels = [picture.voxelize(50) for picture in pictures]
    for coordinates, features in voxels:
        np.testing.assert_array_equal(coordinates, voxels[0].coordinates)
        assert features.shape == (len(coordinates), 1)


def test_it_keeps_label_render_size_and_mesh():
    mesh = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    picture = Off3DPicture(mesh, render_size=12, label=3)
    assert (picture.render_size, picture.label, picture.mesh) == (12, 3, mesh)
    assert (Off3DPicture(mesh).render_size, Off3DPicture(mesh).label) == (40, -1)
    assert repr(picture) == "Off3DPicture(3 vertices, 1 faces, render_size=12, label=3)"


def test_it_voxelizes_at_its_render_size_into_any_grid():
    picture = Off3DPicture(Mesh([[0, 0, 0], [2, 0, 0], [0, 1, 0]], [[0, 1, 2]]), render_size=12)
    coordinates, _ = picture.voxelize((20, 16, 8))
    assert (np.ptp(coordinates, axis=0) + 1).tolist() == [12, 6, 1]
    assert picture.voxelize(6).dropped > 0
    assert len(picture.voxelize(20, fill=True).coordinates) == len(picture.voxelize(20).coordinates)


@pytest.mark.parametrize("size", [40.5, 0, "40", None])
def test_a_render_size_is_a_positive_whole_number(size):
    with pytest.raises(ValueError, match="Off3DPicture: render_size is .*expected a positive whole number"):
        Off3DPicture(Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]), render_size=size)


def test_a_broken_file_and_another_type_are_refused(tmp_path):
    path = tmp_path / "broken.off"
    path.write_text("OFF\n9 9 9\n")
    with pytest.raises(MeshError, match=r"broken\.off: the header declares"):
        Off3DPicture(path)
    with pytest.raises(TypeError, match="path_or_mesh is int"):
        Off3DPicture(3)
