"""A check of figures: all text lies inside the figure, and no text overlaps another."""

from __future__ import annotations

import pytest


def words_of(figure):
    """The text artists that are drawn, tick labels and legends included."""
    from matplotlib.text import Text

    found = list(figure.texts) + [text for text in (figure._suptitle, figure._supxlabel) if text is not None]
    for axes in figure.axes:
        found += [axes.title, *axes.texts]
        if axes.axison:
            for axis, place in ((axes.xaxis, 0), (axes.yaxis, 1)):
                low, high = sorted(axis.get_view_interval())
                found += [axis.label] + [label for label in axis.get_ticklabels()
                                         if low <= label.get_position()[place] <= high]
        if axes.get_legend() is not None:
            found += axes.get_legend().get_texts()
    return list({id(t): t for t in found if isinstance(t, Text) and t.get_visible() and t.get_text()}.values())


@pytest.fixture
def readable():
    """A function that asserts this for a figure."""

    def check(figure):
        figure.draw_without_rendering()  # settles the layout
        width, height = figure.get_size_inches() * figure.dpi
        boxes = [(text.get_text(), text.get_window_extent()) for text in words_of(figure)]
        assert boxes
        for number, (words, box) in enumerate(boxes):
            assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, f"{words!r} is cut"
            for others, other in boxes[number + 1:]:
                across = min(box.x1, other.x1) - max(box.x0, other.x0)
                along = min(box.y1, other.y1) - max(box.y0, other.y0)
                assert across < 1 or along < 1, f"{words!r} over {others!r}"

    return check
