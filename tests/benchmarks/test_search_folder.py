"""The benchmark of searching a folder: its meshes, and the functions whose time it tells."""

from __future__ import annotations

import ast
from pathlib import Path

import sparsenet
from benchmarks import search_folder
from sparsenet.models.folder import mesh_files
from sparsenet.shapes import read_mesh

PACKAGE = Path(sparsenet.__file__).parent


def test_the_meshes_lie_two_folders_deep_and_are_made_once(tmp_path, monkeypatch):
    names = search_folder.make_meshes(tmp_path, 23)
    assert names == sorted(names) == [name for name, _ in mesh_files(tmp_path)] and len(set(names)) == 23
    assert {name.count("/") for name in names} == {2}
    assert len({read_mesh(tmp_path / name).vertices.tobytes() for name in names}) == 23
    monkeypatch.setattr(search_folder, "write_off", lambda path, mesh: 1 / 0)
    assert search_folder.make_meshes(tmp_path, 23) == names


def test_each_part_that_it_times_is_a_function_of_the_package():
    for file, function in search_folder.PARTS.values():
        found = [path for path in PACKAGE.rglob(file)
                 for node in ast.walk(ast.parse(path.read_text("utf-8")))
                 if isinstance(node, ast.FunctionDef) and node.name == function]
        assert found, (file, function)


def test_the_profile_names_the_parts():
    import cProfile
    import pstats

    profile = cProfile.Profile()
    profile.runcall(lambda: list(mesh_files(PACKAGE)))
    table = search_folder.table(pstats.Stats(profile))
    assert "list the folder" in table and "embed the query                0.00 s" in table
