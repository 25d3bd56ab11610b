"""Pictures of labelled voxels."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.colors import to_rgb

from sparsenet.inspect import labelled_voxels
from sparsenet.inspect.labels import UNKNOWN, _colours

CUBE = np.argwhere(np.ones((3, 3, 3)))


def faces(axes):
    return np.unique(axes.collections[0].get_facecolor()[:, :3].round(3), axis=0)


def test_each_class_has_its_colour_and_the_legend_names_those_that_occur(readable):
    labels = CUBE[:, 2] - 1
    shapes = [(CUBE, labels), (CUBE.tolist(), [2] * 27)]
    figure = labelled_voxels(shapes, ["seat", "leg", "back"], ["true", "predicted"])
    readable(figure)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["seat", "leg", "back", "unknown"]
    assert [axes.get_title() for axes in figure.axes] == ["true", "predicted"]
    tints = [patch.get_facecolor()[:3] for patch in legend.get_patches()]
    assert len(set(tints)) == 4 and np.allclose(tints[3], to_rgb(UNKNOWN))
    of_one = faces(figure.axes[1])
    assert len(of_one) <= 6  # shades of one colour
    assert all(np.argmax(one) == np.argmax(tints[2]) for one in of_one)


def test_colours_differ_for_many_classes():
    assert len(np.unique(_colours(30).round(4), axis=0)) == 31


def test_nothing_to_draw_is_drawn_as_such():
    figure = labelled_voxels([(np.zeros((0, 3), int), np.zeros(0, int))], ["a"])
    assert figure.axes[0].texts[0].get_text() == "no voxels"


@pytest.mark.parametrize(("shapes", "titles", "message"), [
    ([], [], "there are 0 shapes and 0 titles"),
    ([(CUBE, CUBE[:, 0])], ["a", "b"], "there are 1 shapes and 2 titles"),
    ([(CUBE, CUBE[:5, 0])], [], r"shape 0 has coordinates of shape \(27, 3\) and labels of \(5,\)"),
    ([(CUBE, CUBE[:, 0] + 1)], [], "labels of shape 0 go from 1 to 3, expected -1 to 1"),
])
def test_what_does_not_fit_is_refused(shapes, titles, message):
    with pytest.raises(ValueError, match=message):
        labelled_voxels(shapes, ["a", "b"], titles)
