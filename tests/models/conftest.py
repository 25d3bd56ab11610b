"""A network of a training that takes a second, packed; and a folder of meshes."""

from __future__ import annotations

import pytest
from mesh_files import mesh_of, write_off
from small_runs import run

from sparsenet.data.convert import Conversion
from sparsenet.data.importers import import_parametric
from sparsenet.models.packing import pack_model
from sparsenet.training.config import parse_config

CONFIG = """
[data]
path = "{path}"
workers = 0
render_size = 8
validation_share = 0.0
[network]
channels = [4, 6, 8]
[training]
epochs = 1
batch_size = 8
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """shapes.h5, a run of one epoch on it, and its last checkpoint packed: model.h5."""
    folder = tmp_path_factory.mktemp("models")
    path = folder / "shapes.h5"
    import_parametric(path, {"train": 2, "test": 1},
                      conversion=Conversion(render_size=8, fill=True, progress=False))
    run(parse_config(CONFIG.format(path=path), "test"), folder / "run")
    pack_model(folder / "run" / "last.h5", folder / "model.h5", turns=4)
    return folder


@pytest.fixture
def meshes(tmp_path):
    """A folder with two meshes and a text, and a broken mesh beside it."""
    write_off(tmp_path / "meshes" / "a.off", mesh_of("chair", 5))
    write_off(tmp_path / "meshes" / "deep" / "b.off", mesh_of("chair", 10))
    (tmp_path / "meshes" / "notes.txt").write_text("no mesh")
    (tmp_path / "broken.off").write_text("OFF\n3 1 0\n")
    return tmp_path
