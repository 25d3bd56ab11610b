"""OFF, the text format of ModelNet and of the Princeton Shape Benchmark, as it is met in the wild.

    OFF                     the word may be missing, be glued to the counts (`OFF3514 3546 0`),
    vertices faces edges    or share their line; the number of edges may be missing
    x y z                   for each vertex; normals or colours may follow on its line
    n i j k ...             for each face: how many corners, which vertices (from 0); a colour may follow

Faces of three corners, the rule by far, are read in one sweep.
"""

from __future__ import annotations

import re

import numpy as np

from sparsenet.shapes.mesh import Mesh, MeshError

_WORD = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:ST|C|N)*(?P<dimension>4?)OFF(?P<binary>[ \t]+BINARY\b)?",
                   re.IGNORECASE)
_COUNTS = re.compile(rb"(?:\xef\xbb\xbf)?\s*(\d{1,18})[ \t]+(\d{1,18})(?:[ \t]+-?\d+)?[ \t]*(?:[\r\n]|$)")
_COMMENT = re.compile(rb"#[^\r\n]*")
_BYTES_OF_A_VERTEX = len("0 0 0\n")
_BYTES_OF_A_FACE = len("1 0\n")


def parse_off(data: bytes) -> Mesh:
    """The mesh of a text OFF file; polygons are cut into fans of triangles (exact for convex ones).

    Raises
    ------
    MeshError : no header, another kind of OFF, fewer vertices or faces than the header promises,
        words where numbers should be, and what `Mesh` refuses.
    """
    if b"#" in data:
        data = _COMMENT.sub(b"", data)
    body, vertex_count, face_count = _header(data)
    words = body.split()
    if len(words) == 3 * vertex_count + 4 * face_count:
        faces = _numbers(words[3 * vertex_count:]).reshape(face_count, 4)
        if (faces[:, 0] == 3).all():
            return Mesh(_numbers(words[:3 * vertex_count]).reshape(vertex_count, 3), _indices(faces[:, 1:]))
    polygons = _in_a_row(words[3 * vertex_count:], face_count) if len(words) >= 3 * vertex_count else None
    if polygons is not None:
        vertices = _numbers(words[:3 * vertex_count])
    else:
        vertices, polygons = _by_lines(body, vertex_count, face_count)
    return Mesh(vertices.reshape(vertex_count, 3), _fans(polygons))


def _header(data: bytes) -> tuple[bytes, int, int]:
    """What follows the header, and the numbers of vertices and faces that it promises."""
    word = _WORD.match(data)
    if word and word["binary"]:
        raise MeshError("binary OFF is not read: convert it to text OFF or to PLY")
    if word and word["dimension"]:
        raise MeshError("4OFF (homogeneous vertices) is not read: the vertices must be x y z")
    counts = _COUNTS.match(data, word.end() if word else 0)
    if counts is None:
        raise MeshError("the word OFF is not followed by the line 'vertices faces edges'" if word else
                        "it opens with neither the word OFF nor the line 'vertices faces edges'")
    vertex_count, face_count = int(counts[1]), int(counts[2])
    body = data[counts.end():]
    if vertex_count * _BYTES_OF_A_VERTEX + face_count * _BYTES_OF_A_FACE > len(body) + 1:
        raise MeshError(f"the header promises {vertex_count} vertices and {face_count} faces, "
                        f"more than the {len(body)} bytes after it can hold")
    return body, vertex_count, face_count


def _in_a_row(words: list[bytes], face_count: int) -> list[list[bytes]] | None:
    """The corners of each face where the words are faces and nothing else, on whatever lines."""
    polygons, position = [], 0
    for _ in range(face_count):
        if position >= len(words) or not _is_count(words[position]):
            return None
        end = position + 1 + int(words[position])
        polygons.append(words[position + 1:end])
        position = end
    return polygons if position == len(words) else None


def _by_lines(body: bytes, vertex_count: int, face_count: int) -> tuple[np.ndarray, list[list[bytes]]]:
    """Vertices and corners where more follows on the lines (normals, colours, edges)."""
    lines = [words for line in body.splitlines() if (words := line.split())]
    if len(lines) < vertex_count + face_count:
        raise MeshError(f"the header promises {vertex_count} vertices and {face_count} faces, "
                        f"there are {len(lines)} lines after it")
    short = next((words for words in lines[:vertex_count] if len(words) < 3), None)
    if short is not None:
        raise MeshError(f"a vertex is {_shown(short)}, expected three numbers")
    polygons = []
    for words in lines[vertex_count:vertex_count + face_count]:
        if not _is_count(words[0]) or int(words[0]) >= len(words):
            raise MeshError(f"a face is {_shown(words)}, expected the number of corners and as many vertices")
        polygons.append(words[1:1 + int(words[0])])
    return _numbers([word for words in lines[:vertex_count] for word in words[:3]]), polygons


def _fans(polygons: list[list[bytes]]) -> np.ndarray:
    """(F, 3) triangles of the polygons of three corners or more."""
    fans = [np.zeros((0, 3), np.int32)]
    for corners in sorted({len(polygon) for polygon in polygons if len(polygon) >= 3}):
        words = [word for polygon in polygons if len(polygon) == corners for word in polygon]
        block = _indices(_numbers(words)).reshape(-1, corners)
        fans += [block[:, [0, corner, corner + 1]] for corner in range(1, corners - 1)]
    return np.concatenate(fans)


def _is_count(word: bytes) -> bool:
    return word.isdigit() and len(word) < 10


def _numbers(words: list[bytes]) -> np.ndarray:
    try:
        return np.fromiter(map(float, words), np.float64, len(words))
    except ValueError as error:
        raise MeshError(f"a number is expected: {error}") from None


def _indices(numbers: np.ndarray) -> np.ndarray:
    whole = np.abs(numbers) < 2**31  # false for NaN
    whole &= numbers == np.trunc(numbers)
    if not whole.all():
        raise MeshError(f"a face refers to vertex {numbers[~whole][0]:g}, expected a whole number")
    return numbers.astype(np.int32)


def _shown(words: list[bytes]) -> str:
    return repr(b" ".join(words)[:60].decode("ascii", "replace"))
