"""Ten classes of furniture and tools, generated at random: a data set that needs no download.

The meshes vary in proportions, in parts (a chair may have arms, slats or a pedestal) and in pose
(tools stand or lie, joints bend, everything is rotated slightly).  z points up.  On request each face says which of
`PARTS` it is of, so that a network can learn to label voxels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparsenet.shapes.augment import rotation_about
from sparsenet.shapes.mesh import Mesh
from sparsenet.shapes.primitives import (
    Body,
    arc_plate,
    assembled,
    ball,
    box,
    cone,
    cylinder,
    lathe,
    moved,
    of_part,
    of_parts,
    rod,
    tube,
    turned,
)

X, Y, Z = 0, 1, 2
# A cell that two parts share is of the earlier one.  What is a voxel or two thick at a render size of 20 is of the part
# that it is fixed to: arms are of the back, a lamp's pole of its base, pillows of the mattress, books of the shelf.
PARTS = ("seat", "top", "mattress", "shelf", "body", "head", "shade", "back", "base", "leg", "neck", "handle")
_TURN = 0.35  # radians: largest rotation about the vertical
_TILT = 0.08  # radians: largest rotation about the other two axes


def parametric_mesh(class_name: str, rng: np.random.Generator, parts: bool = False) -> Mesh:
    """A random mesh of a class of `CLASSES`; the same state of `rng` gives the same mesh.

    parts : label its faces with the numbers of their parts in `PARTS`

    Raises
    ------
    ValueError : the class is unknown.
    """
    if class_name not in _MAKERS:
        raise ValueError(f"parametric_mesh: class_name is {class_name!r}, expected one of "
                         f"{', '.join(CLASSES)}")
    bodies = _MAKERS[class_name](rng)
    for axis, limit in ((Z, _TURN), (X, _TILT), (Y, _TILT)):
        bodies = turned(bodies, rotation_about(axis, rng.uniform(-limit, limit)))
    return assembled(bodies, PARTS if parts else None)


def _chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def _legs(rng: np.random.Generator, half_x: float, half_y: float, top: float, radius: float,
          splay: float = 0.0, count: int = 4) -> list[Body]:
    """Round or square legs from the floor to height `top`, in the corners or, if three, on a circle."""
    if count == 3:
        angles = 2 * np.pi * np.arange(3) / 3 + rng.uniform(0, 2 * np.pi)
        corners = [(half_x * np.cos(angle), half_y * np.sin(angle)) for angle in angles]
    else:
        corners = [(x, y) for x in (-half_x, half_x) for y in (-half_y, half_y)]
    if splay == 0 and _chance(rng, 0.5):
        return of_part("leg", *(box((2 * radius, 2 * radius, top), (x, y, top / 2)) for x, y in corners))
    return of_part("leg", *(rod((x * (1 + splay), y * (1 + splay), 0), (x, y, top), radius) for x, y in corners))


def _pedestal(rng: np.random.Generator, spread: float, top: float, radius: float) -> list[Body]:
    """One central leg, on a disc or on a star of feet."""
    bodies = [cylinder(radius, 0, top)]
    if _chance(rng, 0.5):
        return of_part("leg", *bodies, cone(spread, spread * 0.8, 0, 0.06))
    feet = int(rng.integers(4, 6))
    angles = 2 * np.pi * np.arange(feet) / feet
    return of_part("leg", *bodies, *(rod((0, 0, 0.12), (spread * np.cos(angle), spread * np.sin(angle), 0),
                                         radius * 0.7) for angle in angles))


def _bed(rng: np.random.Generator) -> list[Body]:
    length, width = rng.uniform(1.9, 2.2), rng.uniform(0.8, 1.8)
    base, mattress = rng.uniform(0.15, 0.4), rng.uniform(0.15, 0.3)
    top = base + mattress
    bodies = of_part("mattress", box((length, width, mattress), (0, 0, base + mattress / 2)))
    bodies += of_part("back", box((0.06, width * 1.04, rng.uniform(0.75, 1.3)),
                                  (-length / 2, 0, rng.uniform(0.4, 0.5))))
    if _chance(rng, 0.5):
        bodies += of_part("base", box((length, width * 0.96, base), (0, 0, base / 2)))
    else:
        bodies += _legs(rng, length / 2 - 0.08, width / 2 - 0.08, base, rng.uniform(0.03, 0.06))
    if _chance(rng, 0.4):
        bodies += of_part("back", box((0.06, width * 1.04, top + rng.uniform(0, 0.2)), (length / 2, 0, top / 2)))
    pillows = 2 if width > 1.2 else 1
    for pillow in range(pillows):
        y = (pillow - (pillows - 1) / 2) * width / 2
        bodies += of_part("mattress", box((0.35, width / pillows * 0.75, 0.12), (-length / 2 + 0.3, y, top + 0.06)))
    return bodies


def _bookshelf(rng: np.random.Generator) -> list[Body]:
    width, depth, height = rng.uniform(0.6, 1.3), rng.uniform(0.25, 0.4), rng.uniform(1.3, 2.2)
    boards, plank = int(rng.integers(4, 8)), 0.03
    bodies = [box((plank, depth, height), (side * width / 2, 0, height / 2)) for side in (-1, 1)]
    if _chance(rng, 0.6):
        bodies.append(box((width, plank, height), (0, depth / 2, height / 2)))
    if _chance(rng, 0.3):
        bodies.append(box((plank, depth, height), (rng.uniform(-0.2, 0.2) * width, 0, height / 2)))
    levels = np.linspace(0.08, height, boards)
    bodies += [box((width, depth, plank), (0, 0, level)) for level in levels]
    for level, gap in zip(levels[:-1], np.diff(levels), strict=True):
        if _chance(rng, 0.6):  # a row of books
            filled, tall = rng.uniform(0.2, 0.9) * width, rng.uniform(0.5, 0.9) * gap
            start = rng.uniform(-width / 2, width / 2 - filled)
            bodies.append(box((filled, depth * 0.7, tall), (start + filled / 2, 0, level + tall / 2)))
    return of_part("shelf", *bodies)


def _bottle(rng: np.random.Generator) -> list[Body]:
    radius, body = rng.uniform(0.13, 0.24), rng.uniform(0.45, 0.7)
    neck, shoulder = radius * rng.uniform(0.25, 0.45), rng.uniform(0.08, 0.25)
    length = rng.uniform(0.12, 0.35)
    waist = rng.uniform(0.85, 1.0)
    rim = body + shoulder + length
    profile = [(0, 0), (radius * 0.9, 0), (radius, 0.03), (radius * waist, body / 2), (radius, body),
               ((radius + neck) / 2, body + shoulder * rng.uniform(0.4, 0.7)), (neck, body + shoulder),
               (neck, rim), (0, rim)]
    bodies = [of_parts(["body"] * 6 + ["neck"] * 2, lathe(profile))]
    if _chance(rng, 0.5):
        bodies += of_part("neck", cylinder(neck * 1.25, rim - 0.06, rim + 0.03))
    return bodies


def _chair(rng: np.random.Generator) -> list[Body]:
    width, depth, seat = rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.55), rng.uniform(0.38, 0.5)
    back, radius = rng.uniform(0.4, 0.7), rng.uniform(0.015, 0.03)
    bodies = of_part("seat", box((width, depth, rng.uniform(0.03, 0.09)), (0, 0, seat)))
    if _chance(rng, 0.25):
        bodies += _pedestal(rng, width * 0.55, seat, 0.03)
    else:
        splay = rng.uniform(0.05, 0.25) if _chance(rng, 0.4) else 0.0
        bodies += _legs(rng, width / 2 - radius, depth / 2 - radius, seat, radius, splay)
    rest: list[Body] = []
    y = depth / 2
    if _chance(rng, 0.45):
        low = rng.uniform(0, 0.5) * back
        rest.append(box((width, 0.03, back - low), (0, y, seat + (back + low) / 2)))
        rest += [rod((x, y, seat), (x, y, seat + low), 0.015) for x in (-width * 0.4, width * 0.4)]
    else:
        posts = int(rng.integers(2, 6))
        rest += [rod((x, y, seat), (x, y, seat + back), 0.015)
                 for x in np.linspace(-0.46, 0.46, posts) * width]
        rest += [box((width, 0.03, 0.06), (0, y, seat + back * level))
                 for level in (1.0, rng.uniform(0.4, 0.7))]
    bodies += of_part("back", *turned(rest, rotation_about(X, -rng.uniform(0, 0.25)), about=(0, y, seat)))
    if _chance(rng, 0.35):
        arm = seat + rng.uniform(0.18, 0.26)
        for x in (-width / 2, width / 2):
            bodies += of_part("back", box((0.05, depth, 0.03), (x, 0, arm)),
                              rod((x, -y * 0.8, seat), (x, -y * 0.8, arm), 0.015))
    return bodies


def _hammer(rng: np.random.Generator) -> list[Body]:
    length, grip = rng.uniform(0.7, 1.1), rng.uniform(0.025, 0.04)
    face, span = rng.uniform(0.05, 0.1), rng.uniform(0.13, 0.22)
    handle = cone(grip * rng.uniform(1, 1.4), grip, 0, length)
    head = [cylinder(face * 0.7, -span * 0.7, span * 0.7), cylinder(face, span * 0.5, span)]
    kind = rng.integers(3)
    if kind == 0:  # a mallet, symmetric
        head = [box((2 * face, 2 * face, 2 * span), (0, 0, 0))]
    elif kind == 1:  # a wedge
        head.append(cone(0.01, face * 0.7, -span * 1.2, -span * 0.5, sections=4))
    head = turned(head, rotation_about(Y, np.pi / 2))
    if kind == 2:  # a claw: two bent prongs
        bend = np.linspace(0, rng.uniform(0.7, 1.2), 5)
        for side in (-1, 1):
            path = np.stack([-span * 0.5 - span * np.sin(bend), side * face * (0.25 + 0.3 * bend),
                             -span * (1 - np.cos(bend))], axis=1)
            head.append(tube(path, face * 0.3))
    return _standing_or_lying(rng, of_part("handle", handle) + of_part("head", *moved(head, (0, 0, length))))


def _lamp(rng: np.random.Generator) -> list[Body]:
    spread, height = rng.uniform(0.15, 0.3), rng.uniform(0.7, 1.6)
    radius, wide = rng.uniform(0.012, 0.025), rng.uniform(0.16, 0.32)
    tall, narrow = rng.uniform(0.18, 0.35), rng.uniform(0.3, 0.9)
    bodies = of_part("base", cone(spread, spread * rng.uniform(0.6, 1), 0, rng.uniform(0.03, 0.08)))
    shade = [lathe([(wide, 0), (wide * narrow, tall)]), ball(wide * 0.35, (0, 0, tall * 0.4))]
    if _chance(rng, 0.4):  # an arm with a joint
        lean, span = rng.uniform(-0.5, -0.1), rng.uniform(0.4, 0.7) * height
        joint = np.array([np.sin(lean) * height * 0.7, 0, np.cos(lean) * height * 0.7])
        end = joint + span * np.array([np.cos(rng.uniform(0.1, 0.8)), 0, np.sin(rng.uniform(0.1, 0.8))])
        bodies += of_part("base", rod((0, 0, 0), joint, radius), rod(joint, end, radius), ball(radius * 2, joint))
        shade = turned(shade, rotation_about(Y, rng.uniform(-0.6, 0.1)), about=(0, 0, tall))
        place = end - (0, 0, tall)
    else:
        bodies += of_part("base", cylinder(radius, 0, height))
        place = np.array([0, 0, height - tall * 0.6])
    return bodies + of_part("shade", *moved(shade, place))


def _mug(rng: np.random.Generator) -> list[Body]:
    radius, height = rng.uniform(0.35, 0.5), rng.uniform(0.7, 1.2)
    low, wall = radius * rng.uniform(0.7, 1.05), 0.06
    bodies = of_part("body", lathe([(0, 0), (low, 0), (radius, height), (radius - wall, height), (low - wall, wall),
                                    (0, wall)], sections=20))
    span, tall = rng.uniform(0.25, 0.4), rng.uniform(0.25, 0.4) * height
    bend = np.linspace(-np.pi / 2, np.pi / 2, 9)
    square = rng.uniform(0.5, 1.0)  # 1 is an arc, less is squarer
    path = np.stack([(low + radius) / 2 - 0.04 + span * np.abs(np.cos(bend)) ** square, np.zeros(9),
                     height * rng.uniform(0.45, 0.55) + tall * np.sin(bend)], axis=1)
    return bodies + of_part("handle", tube(path, rng.uniform(0.04, 0.07)))


def _stool(rng: np.random.Generator) -> list[Body]:
    radius, height = rng.uniform(0.16, 0.22), rng.uniform(0.55, 0.9)
    thick, leg = rng.uniform(0.03, 0.09), rng.uniform(0.013, 0.025)
    inset = radius * 0.65
    if _chance(rng, 0.65):
        bodies = of_part("seat", cylinder(radius, height - thick, height))
    else:
        bodies = of_part("seat", box((2 * radius, 2 * radius, thick), (0, 0, height - thick / 2)))
    splay = rng.uniform(0.1, 0.6)
    legs = int(rng.integers(3, 5))
    bodies += _legs(rng, inset, inset, height - thick, leg, splay, legs)
    if _chance(rng, 0.7):  # a ring or a square of rungs
        level = rng.uniform(0.2, 0.45)
        out = inset * (1 + splay * (1 - level)) * (1.0 if legs == 3 else 2**0.5)
        sides = 4 if legs == 4 and _chance(rng, 0.5) else 16
        angle = 2 * np.pi * (np.arange(sides + 1) + 0.5) / sides
        ring = np.stack([out * np.cos(angle), out * np.sin(angle), np.full_like(angle, level * height)],
                        axis=1)
        bodies += of_part("leg", *(rod(start, end, leg * 0.8, 6)
                                   for start, end in zip(ring[:-1], ring[1:], strict=True)))
    return bodies


def _table(rng: np.random.Generator) -> list[Body]:
    length, width, height = rng.uniform(1.0, 2.0), rng.uniform(0.7, 1.0), rng.uniform(0.5, 0.8)
    thick, radius = rng.uniform(0.03, 0.08), rng.uniform(0.025, 0.06)
    if _chance(rng, 0.3):
        length = width = rng.uniform(0.9, 1.4)
        bodies = of_part("top", cylinder(width / 2, height - thick, height, sections=24))
    else:
        bodies = of_part("top", box((length, width, thick), (0, 0, height - thick / 2)))
    half_x, half_y = length / 2 - 2 * radius, width / 2 - 2 * radius
    support = rng.integers(4)
    if support == 0 and length < 1.5:
        return bodies + _pedestal(rng, width * 0.35, height, radius * 1.3)
    if support == 1:  # trestles
        bodies += of_part("leg", *(box((2 * radius, width * 0.7, height), (side * 0.7 * half_x, 0, height / 2))
                                   for side in (-1, 1)))
        return bodies + of_part("leg", box((1.4 * half_x, 0.04, 0.1), (0, 0, height * rng.uniform(0.2, 0.6))))
    inset = 0.7 if np.isclose(length, width) else 1.0  # a round top covers no corners
    half_x, half_y = half_x * inset, half_y * inset
    bodies += _legs(rng, half_x, half_y, height, radius, rng.choice([0.0, 0.1]))
    if support == 2:  # a lower shelf
        bodies += of_part("shelf", box((2 * half_x, 2 * half_y, 0.03), (0, 0, height * rng.uniform(0.2, 0.4))))
    return bodies


def _wrench(rng: np.random.Generator) -> list[Body]:
    length, width, thick = rng.uniform(0.8, 1.3), rng.uniform(0.07, 0.12), rng.uniform(0.05, 0.09)
    bodies = of_part("handle", box((length, width, thick), (0, 0, 0)))
    closed = rng.permutation([True, False]) if _chance(rng, 0.5) else (_chance(rng, 0.3),) * 2
    for side, is_ring in zip((-1, 1), closed, strict=True):
        inner = width * rng.uniform(0.6, 0.9)
        outer = inner + width * rng.uniform(0.5, 0.8)
        gap = 0.0 if is_ring else rng.uniform(0.45, 0.75)  # half the angle of the open jaw
        away = (0 if side > 0 else np.pi) + rng.uniform(-0.3, 0.3)
        centre = (side * (length / 2 + (inner + outer) / 2), 0, 0)
        bodies += of_part("head", arc_plate(inner, outer, thick * 1.3, away + gap, away + 2 * np.pi - gap, centre, 20))
    return _standing_or_lying(rng, turned(bodies, rotation_about(Y, np.pi / 2)))


def _standing_or_lying(rng: np.random.Generator, bodies: list[Body]) -> list[Body]:
    """A tool standing along z or lying along x, in both cases rotated about its own axis."""
    bodies = turned(bodies, rotation_about(Z, rng.uniform(0, 2 * np.pi)))
    return turned(bodies, rotation_about(Y, np.pi / 2)) if _chance(rng, 0.5) else bodies


_MAKERS: dict[str, Callable[[np.random.Generator], list[Body]]] = {
    "bed": _bed, "bookshelf": _bookshelf, "bottle": _bottle, "chair": _chair, "hammer": _hammer,
    "lamp": _lamp, "mug": _mug, "stool": _stool, "table": _table, "wrench": _wrench,
}
CLASSES = tuple(_MAKERS)
