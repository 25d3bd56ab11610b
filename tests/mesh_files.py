"""Parametric meshes, and OFF files of meshes."""

from __future__ import annotations

from sparsenet.random import keyed_rng
from sparsenet.shapes import parametric_mesh


def mesh_of(name, number=0):
    return parametric_mesh(name, keyed_rng(5, name, number))


def write_off(path, mesh):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0", *(" ".join(map(repr, map(float, v)))
                                                                  for v in mesh.vertices),
             *("3 " + " ".join(map(str, f)) for f in mesh.faces)]
    path.write_text("\n".join(lines))
    return path
