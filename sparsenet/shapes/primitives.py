"""The bodies that parametric shapes consist of: (vertices, faces) pairs of plain arrays, and the part that they are of.

Lengths are in any unit, z points up, angles are in radians.  Bodies may overlap; they are not merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from sparsenet.shapes.mesh import Mesh


class Body(tuple):
    """Unpacks to vertices (V, 3) float64, faces (F, 3) int32.

    part : name of the part that it is of, or a name for each face, (F,) text; "" if it is of none
    """

    part: str | np.ndarray

    def __new__(cls, vertices: np.ndarray, faces: np.ndarray, part: str | np.ndarray = "") -> Body:
        body = super().__new__(cls, (vertices, faces))
        body.part = part
        return body


_CUBE = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_QUADS = np.array([[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]])
_CUBE_FACES = np.concatenate([_QUADS[:, [0, 1, 2]], _QUADS[:, [0, 2, 3]]]).astype(np.int32)


def box(size: Sequence[float], centre: Sequence[float]) -> Body:
    """A box with three side lengths around its centre."""
    return Body(_CUBE * size + centre, _CUBE_FACES)


def lathe(profile: Sequence[Sequence[float]], centre: Sequence[float] = (0, 0, 0),
          sections: int = 16) -> Body:
    """The surface of revolution of a profile of (radius, height) points about the z axis."""
    profile = np.asarray(profile, np.float64)
    angle = 2 * np.pi * np.arange(sections) / sections
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(sections)], axis=1)
    vertices = profile[:, :1, None] * ring + profile[:, 1:, None] * np.array([0.0, 0.0, 1.0])
    return Body(vertices.reshape(-1, 3) + centre, _tube_faces(len(profile), sections))


def cylinder(radius: float, bottom: float, top: float, centre: Sequence[float] = (0, 0, 0),
             sections: int = 16) -> Body:
    """A closed upright cylinder from one height to another."""
    return lathe([(0, bottom), (radius, bottom), (radius, top), (0, top)], centre, sections)


def cone(low_radius: float, high_radius: float, bottom: float, top: float,
         centre: Sequence[float] = (0, 0, 0), sections: int = 16) -> Body:
    """A closed upright truncated cone."""
    return lathe([(0, bottom), (low_radius, bottom), (high_radius, top), (0, top)], centre, sections)


def ball(radius: float, centre: Sequence[float], sections: int = 12) -> Body:
    """A sphere."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, sections // 2 + 1)
    return lathe(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), centre, sections)


def tube(path: np.ndarray, radius: float, sections: int = 8) -> Body:
    """A round tube along a path of points (P, 3) that bends by less than a right angle at each point."""
    path = np.asarray(path, np.float64)
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    aside = np.eye(3)[np.argmin(np.abs(along).sum(axis=0))]  # the axis least aligned with the path
    first = np.cross(along, aside)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    angle = 2 * np.pi * np.arange(sections) / sections
    rings = (path[:, None] + radius * (np.cos(angle)[:, None] * first[:, None]
                                       + np.sin(angle)[:, None] * second[:, None]))
    rings = np.concatenate([np.broadcast_to(path[0], (1, sections, 3)), rings,
                            np.broadcast_to(path[-1], (1, sections, 3))])
    return Body(rings.reshape(-1, 3), _tube_faces(len(rings), sections))


def rod(start: Sequence[float], end: Sequence[float], radius: float, sections: int = 8) -> Body:
    """A round rod between two points."""
    return tube(np.array([start, end], np.float64), radius, sections)


def arc_plate(inner: float, outer: float, thickness: float, start: float, stop: float,
              centre: Sequence[float] = (0, 0, 0), sections: int = 16) -> Body:
    """A flat segment of a ring in the xy plane, from one angle to another."""
    angle = np.linspace(start, stop, sections + 1)
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    up = np.array([0, 0, thickness / 2])
    square = np.stack([inner * ring - up, outer * ring - up, outer * ring + up, inner * ring + up], axis=1)
    ends = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    faces = np.concatenate([_tube_faces(sections + 1, 4), ends, ends + 4 * sections])
    return Body(square.reshape(-1, 3) + centre, faces)


def of_part(part: str, *bodies: Body) -> list[Body]:
    """The bodies, as those of a part."""
    return [Body(*body, part) for body in bodies]


def of_parts(parts: Sequence[str], body: Body) -> Body:
    """A lathe's body with a part for each segment of its profile."""
    sections = len(body[1]) // (2 * len(parts))
    return Body(*body, np.tile(np.repeat(parts, sections), 2))


def turned(bodies: Sequence[Body], matrix: np.ndarray, about: Sequence[float] = (0, 0, 0)) -> list[Body]:
    """The bodies transformed by a (3, 3) matrix about a point."""
    return [Body((body[0] - about) @ matrix.T + about, body[1], body.part) for body in bodies]


def moved(bodies: Sequence[Body], by: Sequence[float]) -> list[Body]:
    """The bodies translated by a vector."""
    return [Body(body[0] + by, body[1], body.part) for body in bodies]


def assembled(bodies: Sequence[Body], parts: Sequence[str] | None = None) -> Mesh:
    """One mesh of all the bodies.

    parts : names of parts: each face is labelled with the number of its own, -1 if it is not there; None: no labels
    """
    labels = None
    if parts is not None:
        number = {name: label for label, name in enumerate(parts)}
        labels = np.array([number.get(name, -1) for body in bodies
                           for name in np.broadcast_to(body.part, len(body[1])).tolist()])
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in bodies[:-1]])
    return Mesh(np.concatenate([vertices for vertices, _ in bodies]),
                np.concatenate([faces + start for (_, faces), start in zip(bodies, starts, strict=True)]), labels)


@cache
def _tube_faces(rings: int, sections: int) -> np.ndarray:
    """Triangles between successive rings of vertices."""
    ring, section = np.divmod(np.arange((rings - 1) * sections), sections)
    here, beside = ring * sections + section, ring * sections + (section + 1) % sections
    faces = np.concatenate([np.stack([here, beside, beside + sections], axis=1),
                            np.stack([here, beside + sections, here + sections], axis=1)]).astype(np.int32)
    faces.flags.writeable = False
    return faces
