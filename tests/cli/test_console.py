"""The output of commands on a console whose encoding lacks some characters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import ENVIRONMENT, invoke

from sparsenet.data import Sample, SparseDataset
from sparsenet.shapes import parametric_mesh
from sparsenet.training import Checkpoint, build_network, parse_config, save_checkpoint

CLASSES = ["mug_杯", "stuhl_ü"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint, its dataset and a mesh, all with names beyond ASCII."""
    folder = tmp_path_factory.mktemp("lauf_ü")
    rng = np.random.default_rng(0)
    samples = [Sample(np.unique(rng.integers(0, 12, (40, 3)), axis=0), number % 2, f"杯/{number}", "test")
               for number in range(4)]
    SparseDataset.create(folder / "shapes.h5", samples, (12, 12, 12), 12, CLASSES).close()
    config = parse_config('data.path = "shapes.h5"\ndata.render_size = 0\nnetwork.channels = [4, 5, 6]\n', "test")
    save_checkpoint(folder / "best.h5", Checkpoint(build_network(config, 2).get_weights(), {}, epoch=0, step=0,
                                                   seconds=0.0, config=config.text(), classes=CLASSES))
    mesh = parametric_mesh("mug", rng)
    lines = ["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0",
             *(" ".join(map(repr, map(float, vertex))) for vertex in mesh.vertices),
             *("3 " + " ".join(map(str, face)) for face in mesh.faces)]
    (folder / "杯.off").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(("command", "arguments", "told"), [
    ("evaluate", ["best.h5", "--json", "e_ü.json"], "figures: e_ü.json"),
    ("embed", ["best.h5", "d_杯.h5"], "d_杯.h5: 4 shapes of 2 classes"),
    ("search", ["best.h5", "杯.off"], "mug_杯"),
    pytest.param("inspect", ["--checkpoint", "best.h5", "--mesh", "杯.off", "--out", "p_杯.html"],
                 "page: p_杯.html", marks=pytest.mark.extra("inspect")),
])
def test_a_console_s_encoding_is_no_error(folder, command, arguments, told):
    done = invoke(command, *arguments, cwd=folder, env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"}, text=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert told.encode("ascii", "backslashreplace") in done.stdout
