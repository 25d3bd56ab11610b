"""XYZ: a cloud of points, one a line, as text."""

from __future__ import annotations

from sparsenet.shapes.mesh import Mesh, MeshError, points_as_mesh
from sparsenet.shapes.text import excerpt, is_count, numbers


def parse_xyz(data: bytes) -> Mesh:
    """The points of an XYZ file, x y z at the beginning of each line, each a triangle of one point.

    Blanks, commas or semicolons part the numbers; what follows the third (normals, colours) is passed
    over, and so are comments (#) and a first line that counts the others.

    Raises
    ------
    MeshError : a line that does not begin with three numbers, no point.
    """
    rows = [words for line in data.replace(b",", b" ").replace(b";", b" ").splitlines()
            if (words := line.split(b"#", 1)[0].split())]
    if rows and len(rows[0]) == 1 and is_count(rows[0][0]) and int(rows[0][0]) == len(rows) - 1:
        del rows[0]
    short = next((words for words in rows if len(words) < 3), None)
    if short is not None:
        raise MeshError(f"a line is {excerpt(short)}, expected x y z")
    return points_as_mesh(numbers([word for words in rows for word in words[:3]]).reshape(-1, 3))
