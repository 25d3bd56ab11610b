"""glTF 2.0, as one file (.glb) or with separate buffers (.gltf): the triangles of its scene.

Positions may be quantized (KHR_mesh_quantization) and nodes instanced (EXT_mesh_gpu_instancing).  Any
other required extension is refused by name, unless it only concerns materials and lights.
Skins and morph targets are ignored: a mesh is read in the pose in which its vertices are stored.

Source: the Khronos glTF 2.0 specification.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.shapes.gltf_accessors import Accessors
from sparsenet.shapes.gltf_buffers import Buffers
from sparsenet.shapes.gltf_nodes import placements_of_meshes
from sparsenet.shapes.mesh import Mesh, MeshError, merge
from sparsenet.shapes.text import excerpt

# Required extensions that are supported, and those (by prefix) that only concern materials, textures and lights
READ = ("KHR_mesh_quantization", "EXT_mesh_gpu_instancing", "KHR_materials_", "KHR_texture_", "EXT_texture_",
        "MSFT_texture_", "KHR_lights_", "EXT_lights_", "KHR_xmp")
# Limit of the vertices and triangles that a file may place by repeating its meshes: two per byte, well above
# its content without repetition, and at least a million.
ROWS_PER_BYTE, ROWS_OF_ANY_FILE = 2, 10**6
_MODES = ("points", "lines", "line loops", "line strips", "triangles", "triangle strips", "triangle fans")
_TRIANGLES, _STRIP, _FAN = 4, 5, 6


def parse_glb(data: bytes, folder: Path | None = None) -> Mesh:
    """The mesh of a GLB file; see `parse_gltf`."""
    if len(data) < 20 or data[:4] != b"glTF":
        raise MeshError("the header of the GLB cannot be read: it does not start with 'glTF'")
    version, length, json_length, kind = struct.unpack_from("<III4s", data, 4)
    if version != 2:
        raise MeshError(f"it is a GLB of version {version}, only version 2 is read")
    if kind != b"JSON" or 20 + json_length > len(data):
        raise MeshError(f"the header of the GLB declares {json_length} bytes of JSON, the file has {len(data)} in all")
    if length > len(data):
        raise MeshError(f"the header of the GLB declares {length} bytes, the file has {len(data)}: truncated?")
    chunk = 20 + json_length + -json_length % 4
    binary = None
    if chunk + 8 <= len(data) and data[chunk + 4:chunk + 8] == b"BIN\0":
        size = struct.unpack_from("<I", data, chunk)[0]
        if chunk + 8 + size > len(data):
            raise MeshError(f"a chunk of the GLB declares {size} bytes, {len(data) - chunk - 8} follow: truncated?")
        binary = memoryview(data)[chunk + 8:chunk + 8 + size]
    return parse_gltf(data[20:20 + json_length], folder, binary, len(data))


def parse_gltf(text: bytes, folder: Path | None = None, binary: memoryview | None = None,
               file_size: int | None = None) -> Mesh:
    """The triangles of the scene of a glTF document, with every instance of each mesh.

    Parameters
    ----------
    text : the JSON document
    folder : folder of its buffers; None: only `binary` and embedded buffers are allowed
    binary : the binary chunk of a GLB
    file_size : size of the whole file, in bytes

    Raises
    ------
    MeshError : an unsupported required extension, missing data, no scene, no triangle, or more
        triangles by repetition than the file size justifies.
    """
    try:
        document = json.loads(text)
        if not isinstance(document, dict):
            raise MeshError(f"its JSON is a {type(document).__name__}, expected an object")
        return _scene(document, Buffers(document, folder, binary), len(text) if file_size is None else file_size)
    except MeshError:
        raise
    except UnicodeDecodeError:
        raise MeshError("its JSON is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise MeshError(f"its JSON cannot be read: {error.msg} at byte {error.pos}") from None
    except KeyError as error:
        raise MeshError(f"an entry of its JSON lacks {excerpt(str(error.args[0]).encode())}") from None
    except IndexError:
        raise MeshError("its JSON refers to an entry beyond the end of a list") from None
    except (AttributeError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise MeshError(f"its JSON has a value of a type that glTF does not allow: {' '.join(str(error).split()):.120}"
                        ) from None


def _scene(document: dict[str, Any], buffers: Buffers, file_size: int) -> Mesh:
    required = [str(name) for name in document.get("extensionsRequired", [])]
    unread = [name for name in required if not name.startswith(READ)]
    if unread:
        raise MeshError(f"it requires {', '.join(unread)[:200]}, which is not read: export it without")
    limit = ROWS_OF_ANY_FILE + ROWS_PER_BYTE * file_size
    accessors = Accessors(document, buffers, limit)
    surfaces: dict[tuple, Mesh | None] = {}
    bodies, other, rows = [], set(), 0
    for number, transforms in placements_of_meshes(document, accessors, limit).items():
        for primitive in document["meshes"][number]["primitives"]:
            mode = primitive.get("mode", _TRIANGLES)
            if mode not in (_TRIANGLES, _STRIP, _FAN):
                other.add(_MODES[mode])
                continue
            key = (_positions_of(primitive, accessors), primitive.get("indices"), mode)
            if key not in surfaces:
                surfaces[key] = _surface(*key, accessors)
            mesh = surfaces[key]
            if mesh is not None:
                rows += len(transforms) * (len(mesh.vertices) + len(mesh.faces))
                if rows > limit:
                    raise MeshError(f"its scene places more than {limit} vertices and triangles by repeating its "
                                    f"meshes, the limit for a file of {file_size} bytes: export fewer instances")
                bodies.append(_placed(mesh, transforms))
    if not bodies:
        held = f"only {', '.join(sorted(other))}" if other else "no face"
        raise MeshError(f"its scene contains {held}: only triangles can be voxelized")
    return merge(bodies)


def _positions_of(primitive: dict[str, Any], accessors: Accessors) -> int:
    """The number of the accessor of a primitive's vertices."""
    number, extensions = primitive["attributes"].get("POSITION"), primitive.get("extensions", {})
    if number is None or (extensions and not accessors.is_stored(number)):
        raise MeshError(f"the vertices of a primitive are not stored plainly ({', '.join(extensions)[:100] or 'none'}):"
                        " export it without compression")
    return number


def _surface(positions: int, indices: int | None, mode: int, accessors: Accessors) -> Mesh | None:
    """One surface in its mesh's own frame, without unused vertices; None if it has no triangle."""
    vertices = accessors.positions(positions)
    faces = _faces(np.arange(len(vertices)) if indices is None else accessors.indices(indices), mode)
    if not len(faces):
        return None
    if faces.max() >= len(vertices):
        raise MeshError(f"a face refers to vertex {faces.max()}, there are {len(vertices)} (counted from 0)")
    used, faces = np.unique(faces, return_inverse=True)  # many surfaces may share one long list of vertices
    return Mesh(vertices[used], faces.reshape(-1, 3))


def _faces(corners: np.ndarray, mode: int) -> np.ndarray:
    """Faces (F, 3) from a list, a strip or a fan of corners."""
    if mode == _TRIANGLES:
        return corners[:len(corners) // 3 * 3].reshape(-1, 3)
    step = np.arange(max(len(corners) - 2, 0))
    if mode == _FAN:
        return corners[np.stack([np.zeros_like(step), step + 1, step + 2], axis=1)]
    odd = step % 2
    return corners[np.stack([step + odd, step + 1 - odd, step + 2], axis=1)]


def _placed(mesh: Mesh, transforms: np.ndarray) -> Mesh:
    """One mesh with a copy for each of the transforms (n, 4, 4); the mesh itself for the identity alone."""
    if len(transforms) == 1 and np.array_equal(transforms[0], np.eye(4)):
        return mesh
    linear, shift = transforms[:, :3, :3], transforms[:, :3, 3]
    vertices = np.einsum("vj,nij->nvi", mesh.vertices, linear) + shift[:, None]
    starts = np.arange(len(transforms), dtype=np.int32)[:, None, None] * np.int32(len(mesh.vertices))
    return Mesh(vertices.reshape(-1, 3), (mesh.faces + starts).reshape(-1, 3))
