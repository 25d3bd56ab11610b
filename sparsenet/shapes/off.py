"""OFF, the text format of ModelNet and of the Princeton Shape Benchmark, as found in practice.

    OFF                     the word may be missing, joined to the counts (`OFF3514 3546 0`),
    vertices faces edges    or on the same line; the number of edges may be missing
    x y z                   for each vertex; normals or colours may follow on its line
    n i j k ...             for each face: the number of corners and their vertices (from 0); a colour may follow

Only line breaks separate a colour from the next face.  If a vertex or a face spans several lines, the file is
read as one sequence of words.
"""

from __future__ import annotations

import re
from itertools import chain

import numpy as np

from sparsenet.shapes.mesh import Mesh, MeshError
from sparsenet.shapes.polygons import mesh_of_polygons
from sparsenet.shapes.text import excerpt, indices, is_count, numbers

_WORD = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:ST|C|N)*(?P<dimension>4?)OFF(?P<binary>[ \t]+BINARY\b)?",
                   re.IGNORECASE)
_COUNTS = re.compile(rb"(?:\xef\xbb\xbf)?\s*(\d{1,18})[ \t]+(\d{1,18})(?:[ \t]+-?\d+)?[ \t]*(?:[\r\n]|$)")
_COMMENT = re.compile(rb"#[^\r\n]*")
_BYTES_OF_A_VERTEX = len("0 0 0\n")
_BYTES_OF_A_FACE = len("1 0\n")


def parse_off(data: bytes) -> Mesh:
    """The mesh of a text OFF file; polygons are triangulated (see `mesh_of_polygons`).

    Raises
    ------
    MeshError : no header, another kind of OFF, fewer vertices or faces than the header declares,
        words instead of numbers, or see `mesh_of_polygons`.
    """
    if b"#" in data:
        data = _COMMENT.sub(b"", data)
    body, vertex_count, face_count = _header(data)
    lines = [words for line in body.splitlines() if (words := line.split())]
    first_words = {words[0] for words in lines[vertex_count:vertex_count + face_count]}
    sizes = {word: int(word) for word in first_words if is_count(word)}
    misfit = _misfit(lines, vertex_count, face_count, sizes)
    if misfit is None:
        coordinates = [word for words in lines[:vertex_count] for word in words[:3]]
        faces = [words[1:1 + sizes[words[0]]] for words in lines[vertex_count:vertex_count + face_count]]
    else:
        words = list(chain.from_iterable(lines))
        polygons = _in_a_row(words, 3 * vertex_count, face_count)
        if polygons is None:
            raise MeshError(misfit)
        coordinates, faces = words[:3 * vertex_count], polygons
    vertices = numbers(coordinates).reshape(vertex_count, 3)
    corners = indices(numbers(list(chain.from_iterable(faces))))
    return mesh_of_polygons(vertices, corners, np.array(list(map(len, faces)), np.int64))


def _header(data: bytes) -> tuple[bytes, int, int]:
    """The text after the header, and the numbers of vertices and faces declared in it."""
    word = _WORD.match(data)
    if word and word["binary"]:
        raise MeshError("binary OFF is not read: convert it to text OFF or to PLY")
    if word and word["dimension"]:
        raise MeshError("4OFF (homogeneous vertices) is not read: the vertices must be x y z")
    counts = _COUNTS.match(data, word.end() if word else 0)
    if counts is None:
        raise MeshError("the word OFF is not followed by the line 'vertices faces edges'" if word else
                        "it starts with neither the word OFF nor the line 'vertices faces edges'")
    vertex_count, face_count = int(counts[1]), int(counts[2])
    body = data[counts.end():]
    if vertex_count * _BYTES_OF_A_VERTEX + face_count * _BYTES_OF_A_FACE > len(body) + 1:
        raise MeshError(f"the header declares {vertex_count} vertices and {face_count} faces, "
                        f"more than the {len(body)} bytes after it can hold")
    return body, vertex_count, face_count


def _misfit(lines: list[list[bytes]], vertex_count: int, face_count: int, sizes: dict[bytes, int]) -> str | None:
    """Why the lines are not one vertex each, then one face each; None if they are.

    sizes : the integer value of each first word of the faces' lines
    """
    if len(lines) < vertex_count + face_count:
        return (f"the header declares {vertex_count} vertices and {face_count} faces, "
                f"there are {len(lines)} lines after it")
    short = next((words for words in lines[:vertex_count] if len(words) < 3), None)
    if short is not None:
        return f"a vertex is {excerpt(short)}, expected three numbers"
    wrong = next((words for words in lines[vertex_count:vertex_count + face_count]
                  if sizes.get(words[0], len(words)) >= len(words)), None)
    if wrong is not None:
        return f"a face is {excerpt(wrong)}, expected the number of corners and that many vertices"
    return None


def _in_a_row(words: list[bytes], position: int, face_count: int) -> list[list[bytes]] | None:
    """The corners of each face if the words from `position` on are faces and nothing else, ignoring line breaks."""
    polygons = []
    for _ in range(face_count):
        if position >= len(words) or not is_count(words[position]):
            return None
        end = position + 1 + int(words[position])
        polygons.append(words[position + 1:end])
        position = end
    return polygons if position == len(words) else None
