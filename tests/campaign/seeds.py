"""Small whole mesh files of every format, for the campaigns to damage."""

from __future__ import annotations

import base64
import gzip
import json
import os
import struct
from pathlib import Path

import numpy as np

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.5]])
NOTCH = np.array([[0, 0], [3, 0], [3, 3], [2, 3], [2, 1], [1, 1], [1, 3], [0, 3]], float)
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3], [0, 1, 3], [1, 2, 3]])
_LARGEST = 2**18  # of files from elsewhere


def made_files() -> dict[str, bytes]:
    """Name and bytes of files of all formats."""
    return {**_texts(), **_binaries(), **_gltfs()}


def found_files(root: str | os.PathLike | None) -> dict[str, bytes]:
    """The mesh files of the test data, if there are any, up to a quarter of a megabyte each."""
    files = [path for folder in ("odd_meshes", "modelnet_off") if root is not None and Path(root, folder).is_dir()
             for path in sorted(Path(root, folder).iterdir())]
    return {path.name: path.read_bytes() for path in files if 0 < path.stat().st_size <= _LARGEST}


def glb(document: dict, binary: bytes = b"") -> bytes:
    """A GLB file of a document and a chunk of bytes."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def scene(*nodes: dict, primitive: dict | None = None) -> dict:
    """A glTF document of nodes at the root, whose mesh 0 is `SQUARE` with `TRIANGLES` (see `scene_bytes`)."""
    return {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": list(range(len(nodes)))}],
            "nodes": list(nodes),
            "meshes": [{"primitives": [primitive or {"attributes": {"POSITION": 0}, "indices": 1}]}],
            "accessors": [{"bufferView": 0, "componentType": 5126, "type": "VEC3", "count": 4},
                          {"bufferView": 1, "componentType": 5123, "type": "SCALAR", "count": 12}],
            "bufferViews": [{"buffer": 0, "byteLength": 48}, {"buffer": 0, "byteOffset": 48, "byteLength": 24}],
            "buffers": [{"byteLength": 72}]}


def scene_bytes() -> bytes:
    return SQUARE.astype("<f4").tobytes() + TRIANGLES.astype("<u2").tobytes()


def ply_header(form: str, vertices: int, faces: int, extra: str = "") -> str:
    return (f"ply\nformat {form} 1.0\n{extra}element vertex {vertices}\nproperty float x\nproperty float y\n"
            f"property float z\nelement face {faces}\nproperty list uchar int vertex_indices\nend_header\n")


def _texts() -> dict[str, bytes]:
    rows = "".join(f"{x} {y} {z}\n" for x, y, z in SQUARE)
    notch = "".join(f"{x} {y} 0\n" for x, y in NOTCH)
    faces = "".join(f"3 {a} {b} {c}\n" for a, b, c in TRIANGLES)
    solid = "".join("facet normal 0 0 1\nouter loop\n" + "".join(
        "vertex {} {} {}\n".format(*SQUARE[corner]) for corner in triangle) + "endloop\nendfacet\n"
        for triangle in TRIANGLES)
    texts = {
        "triangles.off": f"OFF\n4 4 0\n{rows}{faces}",
        "coloured.off": f"COFF\n4 1 0\n{rows}4 0 1 2 3 255 0 0\n",
        "notch.off": f"OFF\n8 1 0\n{notch}8 0 1 2 3 4 5 6 7\n",
        "notch.obj": "o a\n" + "".join(f"v {x} {y} 0\n" for x, y in NOTCH) + "f 1/1 2/2/2 3//3 4 5 6 -2 -1\n",
        "triangles.obj": "".join(f"v {x} {y} {z}\n" for x, y, z in SQUARE) + "f 1 2 3\nf -4 -2 -1 # back\n",
        "text.ply": ply_header("ascii", 4, 4, "comment ascii end_header\n") + rows + faces,
        "notch.ply": ply_header("ascii", 8, 1) + notch + "8 0 1 2 3 4 5 6 7\n",
        "points.ply": ply_header("ascii", 4, 0) + rows,
        "text.stl": f"solid four vertex plate\n{solid}endsolid four vertex plate\n",
        "points.xyz": f"4\n{rows}",
    }
    return {name: text.encode() for name, text in texts.items()}


def _binaries() -> dict[str, bytes]:
    vertices, corners = SQUARE.astype(">f4").tobytes(), [(0, 1, 2, 3), (0, 1, 2), (3, 2, 1)]
    mixed = b"".join(struct.pack(f">B{len(face)}i", len(face), *face) for face in corners)
    element = "element tristrips 1\nproperty list int int vertex_indices\nend_header"
    strips = (ply_header("binary_little_endian", 4, 0).replace("end_header", element).encode()
              + SQUARE.astype("<f4").tobytes() + struct.pack("<9i", 8, 0, 1, 2, 3, -1, 0, 1, 3))
    soup = b"".join(struct.pack("<12fH", 0, 0, 1, *SQUARE[triangle].ravel(), 0) for triangle in TRIANGLES)
    runs = bytes([0, 43, 1, 3, 0, 17, 1, 1])
    return {
        "mixed.ply": ply_header("binary_big_endian", 4, 3).encode() + vertices + mixed,
        "strips.ply": strips,
        "binary.stl": b"solid by a program".ljust(80) + struct.pack("<I", 4) + soup,
        "grid.binvox": b"#binvox 1\ndim 4 4 4\ntranslate 0 0 0\nscale 1\ndata\n" + runs,
        "packed.off.gz": gzip.compress(_texts()["triangles.off"], mtime=0),
    }


def _gltfs() -> dict[str, bytes]:
    turned = {"mesh": 0, "translation": [1, 2, 3], "rotation": [0, 0, 0.6, 0.8], "scale": [1, 2, 3]}
    within = scene({"mesh": 0, "children": [1]}, turned)
    within["scenes"][0]["nodes"] = [0]
    within["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(scene_bytes()).decode()
    instanced = scene({"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 0}}}})
    instanced["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    quantized = scene({"mesh": 0})
    quantized["accessors"][0] = {"bufferView": 2, "componentType": 5122, "normalized": True, "type": "VEC3", "count": 4}
    quantized["bufferViews"].append({"buffer": 0, "byteOffset": 72, "byteLength": 32, "byteStride": 8})
    quantized["buffers"][0]["byteLength"] = 104
    packed = np.zeros((4, 4), "<i2")
    packed[:, :3] = SQUARE * 32767
    return {"scene.glb": glb(scene({"mesh": 0}, turned), scene_bytes()), "within.gltf": json.dumps(within).encode(),
            "instanced.glb": glb(instanced, scene_bytes()),
            "quantized.glb": glb({**quantized, "extensionsRequired": ["KHR_mesh_quantization"]},
                                 scene_bytes() + packed.tobytes())}
