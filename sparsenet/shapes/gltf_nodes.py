"""The nodes of a glTF scene: the instances of each mesh."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.shapes.gltf_accessors import Accessors
from sparsenet.shapes.gltf_buffers import whole
from sparsenet.shapes.mesh import MeshError

_INSTANCING = "EXT_mesh_gpu_instancing"
_IDENTITY = np.eye(4)


def placements_of_meshes(document: dict[str, Any], accessors: Accessors, limit: int) -> dict[int, np.ndarray]:
    """For each mesh of the scene, the transforms (n, 4, 4) of its instances.

    Raises
    ------
    MeshError : no scene, a node with two parents, an invalid transform, or more instances than `limit`.
    """
    nodes = document.get("nodes", [])
    waiting = [(node, _IDENTITY) for node in _roots(document)]
    seen: set[int] = set()
    places: dict[int, list[np.ndarray]] = {}
    count = 0
    while waiting:
        number, parent = waiting.pop()
        if whole(number, "node") in seen:
            raise MeshError(f"node {number} has more than one parent")
        seen.add(number)
        node = nodes[number]
        local = _local(node)
        frame = parent if local is None else parent @ local
        if "mesh" in node:
            frames = frame[None] if "extensions" not in node else frame @ _instances(node, accessors)
            count += len(frames)
            if count > limit:
                raise MeshError(f"its scene has more than {limit} instances")
            places.setdefault(whole(node["mesh"], "mesh"), []).append(frames)
        waiting += [(child, frame) for child in node.get("children", [])]
    return {mesh: np.concatenate(frames) for mesh, frames in sorted(places.items())}


def _roots(document: dict[str, Any]) -> list[int]:
    scenes = document.get("scenes", [])
    if not scenes:
        raise MeshError("it has no scene, so the positions of its meshes are unknown and it shows no face")
    return list(scenes[whole(document.get("scene", 0), "scene")].get("nodes", []))


def _local(node: dict[str, Any]) -> np.ndarray | None:
    """The transform (4, 4) from a node's frame to its parent's; None for the identity."""
    if "matrix" in node:
        return _vector(node, "matrix", 16).reshape(4, 4).T  # stored column by column
    if not node.keys() & {"translation", "rotation", "scale"}:
        return None
    translation = _vector(node, "translation", 3) if "translation" in node else np.zeros(3)
    rotation = _vector(node, "rotation", 4) if "rotation" in node else np.array([0.0, 0, 0, 1])
    scale = _vector(node, "scale", 3) if "scale" in node else np.ones(3)
    return transforms(translation[None], rotation[None], scale[None])[0]


def _vector(node: dict[str, Any], name: str, length: int) -> np.ndarray:
    values = np.array(node[name], np.float64)
    if values.shape != (length,) or not np.isfinite(values).all():
        raise MeshError(f"a node's {name} is {str(node[name])[:60]}, expected {length} numbers")
    return values


def _instances(node: dict[str, Any], accessors: Accessors) -> np.ndarray:
    """The transforms (n, 4, 4) of the instances of one node; the identity alone without instancing."""
    if _INSTANCING not in node["extensions"]:
        return _IDENTITY[None]
    attributes = node["extensions"][_INSTANCING]["attributes"]
    given = {name: accessors.floats(attributes[name], kind)
             for name, kind in (("TRANSLATION", "VEC3"), ("ROTATION", "VEC4"), ("SCALE", "VEC3")) if name in attributes}
    counts = {len(values) for values in given.values()}
    if len(counts) != 1:
        raise MeshError(f"the instances of a node have {sorted(counts)} transforms, expected one count")
    rows = np.zeros((counts.pop(), 1))
    return transforms(given.get("TRANSLATION", rows + np.zeros(3)), given.get("ROTATION", rows + (0, 0, 0, 1)),
                      given.get("SCALE", rows + np.ones(3)))


def transforms(translation: np.ndarray, rotation: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Transforms (n, 4, 4): scale (n, 3), rotate by quaternions x y z w (n, 4), then translate (n, 3); float64."""
    norm = np.sqrt((rotation**2).sum(axis=1))
    if not (norm > 0).all():
        raise MeshError("a rotation of its nodes is the quaternion 0, which is not a rotation")
    x, y, z, w = (rotation / norm[:, None]).T
    turns = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                      [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                      [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]).transpose(2, 0, 1)
    result = np.tile(_IDENTITY, (len(scale), 1, 1))
    result[:, :3, :3] = turns * scale[:, None, :]
    result[:, :3, 3] = translation
    return result
