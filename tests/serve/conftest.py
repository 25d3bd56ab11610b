"""A folder of twelve meshes of four kinds, searched by the model of the package."""

from __future__ import annotations

import pytest
from mesh_files import mesh_of, write_off

from sparsenet.serve import Limits, open_gallery
from sparsenet.serve.desk import Desk

NAMES = ("bottle", "chair", "lamp", "table")


@pytest.fixture(scope="session")
def meshes(tmp_path_factory):
    """chairs/chair_0.off and so on, one file that is not a mesh, and beside the folder query.off, another chair."""
    folder = tmp_path_factory.mktemp("serve")
    for name in NAMES:
        for number in range(3):
            write_off(folder / "shapes" / f"{name}s" / f"{name}_{number}.off", mesh_of(name, number))
    (folder / "shapes" / "broken.off").write_text("OFF\n3 1 0\n")
    write_off(folder / "query.off", mesh_of("chair", 77))
    return folder / "shapes"


@pytest.fixture(scope="session")
def query(meshes):
    return (meshes.parent / "query.off").read_bytes()


@pytest.fixture(scope="session")
def gallery(meshes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSENET_CACHE", str(meshes.parent / "cache"))
        return open_gallery(meshes, progress=False)


@pytest.fixture(scope="session")
def desk(gallery):
    """The tasks of a worker, in this process."""
    return Desk(gallery.recipe, Limits(faces=5000, unpacked=2**20))
