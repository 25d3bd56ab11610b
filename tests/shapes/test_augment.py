"""Random placement: distributions, seeds, and the order of things."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.random import keyed_rng
from sparsenet.shapes import Augmentation, rotation_matrix


@pytest.mark.parametrize("kind", ["none", "upright", "so3"])
def test_rotations_are_rotations(rng, kind):
    for _ in range(50):
        matrix = rotation_matrix(kind, rng)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-14)
        assert np.linalg.det(matrix) == pytest.approx(1)


@pytest.mark.parametrize("up_axis", [0, 1, 2])
def test_upright_turns_about_the_up_axis_by_any_angle(rng, up_axis):
    matrices = np.array([rotation_matrix("upright", rng, up_axis) for _ in range(4000)])
    np.testing.assert_array_equal(matrices[:, up_axis], np.tile(np.eye(3)[up_axis], (4000, 1)))
    first, second = (up_axis + 1) % 3, (up_axis + 2) % 3
    angles = np.arctan2(matrices[:, second, first], matrices[:, first, first])
    counts = np.histogram(angles, 16, (-np.pi, np.pi))[0]
    assert ((counts - 250) ** 2 / 250).sum() < 37.7  # chi-squared of 15 degrees, 0.1%


def test_none_is_the_identity(rng):
    np.testing.assert_array_equal(rotation_matrix("none", rng), np.eye(3))


def test_so3_is_uniform(rng):
    matrices = np.array([rotation_matrix("so3", rng) for _ in range(20000)])
    # each entry is a coordinate of a uniform point of the sphere, so uniform over [-1, 1]
    for entry in matrices.reshape(-1, 9).T:
        counts = np.histogram(entry, 20, (-1, 1))[0]
        assert ((counts - 1000) ** 2 / 1000).sum() < 50  # chi-squared of 19 degrees, 0.01%
    # the angle of a uniform rotation has the density (1 - cos) / pi over [0, pi]
    angle = np.arccos(np.clip((np.trace(matrices, axis1=1, axis2=2) - 1) / 2, -1, 1))
    edges = np.linspace(0, np.pi, 17)
    expected = 20000 * np.diff((edges - np.sin(edges)) / np.pi)
    counts = np.histogram(angle, edges)[0]
    assert ((counts - expected) ** 2 / expected)[2:].sum() < 42  # the first bins expect but a handful


def test_turning_a_uniform_rotation_leaves_it_uniform(rng):
    fixed = rotation_matrix("so3", rng)
    matrices = np.array([fixed @ rotation_matrix("so3", rng) for _ in range(20000)])
    assert np.abs(matrices.mean(axis=0)).max() < 0.02
    assert np.abs((matrices ** 2).mean(axis=0) - 1 / 3).max() < 0.01


def test_affine_and_shift_have_the_papers_ranges(rng):
    draws = [Augmentation("so3").draw(rng, 40) for _ in range(2000)]
    affine = np.array([affine for _, affine, _ in draws]) - np.eye(3)
    shift = np.array([shift for _, _, shift in draws])
    for values, most in ((affine, 0.2), (shift, 8.0)):
        assert values.min() >= -most and values.max() <= most
        assert values.min() < -0.99 * most and values.max() > 0.99 * most
        assert abs(values.mean()) < 0.02 * most


def test_rotations_alone(rng):
    rotation, affine, shift = Augmentation("upright", affine=0, shift=0).draw(rng, 40)
    np.testing.assert_array_equal(affine, np.eye(3))
    np.testing.assert_array_equal(shift, np.zeros(3))
    assert rotation.shape == (3, 3)


def test_the_same_keys_draw_the_same_placement():
    augmentation = Augmentation("so3")
    first, again, other = (augmentation.draw(keyed_rng(1, 2, sample), 40) for sample in (3, 3, 4))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


@pytest.mark.parametrize(("arguments", "message"), [
    ({"rotation": "so(3)"}, "rotation is 'so\\(3\\)', expected one of none, upright, so3"),
    ({"up_axis": 3}, "up_axis is 3, expected 0, 1 or 2"),
    ({"affine": -0.1}, "affine is -0.1, expected 0 or a positive"),
    ({"shift": float("nan")}, "shift is nan"),
])
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**{"rotation": "so3", **arguments})


@pytest.mark.parametrize("up_axis", [0, 1, 2])
def test_quarter_turns_and_mirror_come_last_and_leave_the_other_draws(up_axis):
    found = set()
    for epoch in range(80):
        before = Augmentation("so3", 0.2, 0.2, up_axis).draw(keyed_rng(1, epoch), 40)
        rotation, affine, shift = Augmentation("so3", 0.2, 0.2, up_axis, True, True).draw(keyed_rng(1, epoch), 40)
        move = np.rint(affine @ np.linalg.inv(before[1]))
        assert np.array_equal(rotation, before[0])
        assert np.array_equal(affine, move @ before[1]) and np.array_equal(shift, move @ before[2])
        assert np.array_equal(np.abs(move).sum(axis=0), [1, 1, 1]) and move[up_axis, up_axis] == 1
        found.add((move + 0.0).tobytes())  # no -0.0
    assert len(found) == 8


def test_a_symmetry_is_the_one_that_moves_cells():
    """(x, y) -> (-y, x), then x -> -x: as `VoxelAugmentation` does."""
    from sparsenet.shapes.augment import symmetry_matrix

    assert symmetry_matrix(1, False).tolist() == [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    assert symmetry_matrix(1, True).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert symmetry_matrix(0, True, up_axis=0).tolist() == [[1, 0, 0], [0, -1, 0], [0, 0, 1]]
    assert symmetry_matrix(5, False, up_axis=1).tolist() == [[0, 0, -1], [0, 1, 0], [1, 0, 0]]
