"""Gallery, curves, and their files."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from sparsenet.inspect import figures as figures_module
from sparsenet.inspect.curves import precision_recall, rate_curve, training_curves
from sparsenet.inspect.figures import check_picture, save_figure
from sparsenet.inspect.gallery import RIGHT, UNKNOWN, WRONG, Picture, gallery
from sparsenet.retrieval import evaluate

CUBE = np.argwhere(np.ones((3, 3, 3)))


def texts(figure):
    return {text.get_text(): text for text in figure.texts}


def test_right_and_wrong_differ_in_colour_and_sign():
    figure = gallery(Picture(CUBE, "q", "mug"), [Picture(CUBE, "a", "mug", 0.125), Picture(CUBE, "b", "bed", 2.0)])
    found = texts(figure)
    assert found["1. mug ✓"].get_color() == RIGHT and found["2. bed ✗"].get_color() == WRONG
    assert {"query: mug", "a\ndistance 0.125", "b\ndistance 2"} <= set(found)


def test_without_the_querys_label_nothing_is_marked():
    found = texts(gallery(Picture(CUBE, "q"), [Picture(CUBE, "a", "mug", 0.5)]))
    assert found["1. mug"].get_color() == UNKNOWN and "query" in found


@pytest.mark.parametrize("count", [1, 3, 5, 6, 12])
def test_no_text_overlaps_another_or_leaves_the_figure(count, readable):
    long = "a/very/long/name/of_a_shape_" + "x" * 40
    figure = gallery(Picture(CUBE, long, "chair"), [Picture(CUBE, long, "a class of many words", 1 / 3)] * count)
    readable(figure)


def test_a_shape_without_voxels_is_drawn_as_such():
    figure = gallery(Picture(np.empty((0, 3), int), "nothing"), [Picture(CUBE, "a")])
    assert figure.axes[0].texts[0].get_text() == "no voxels"


def test_an_empty_gallery_is_refused():
    with pytest.raises(ValueError, match="results is empty"):
        gallery(Picture(CUBE, "q"), [])


def test_the_losses_of_rising_rates_are_drawn_with_the_suggestion():
    rates, losses = np.geomspace(1e-4, 1, 8), np.array([2.0, 2, 2, 1.5, 1, 0.5, 4, np.inf])
    axes = rate_curve(rates, losses, losses, 1e-2).axes[0]
    assert axes.get_xscale() == "log" and axes.get_ylim() == (0, pytest.approx(2.3))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss of a batch", "smoothed",
                                                                           "suggestion: 0.01"]
    assert len(rate_curve(rates, losses, losses, None).axes[0].lines) == 2


def test_training_curves_have_a_panel_for_each_kind_of_column(tmp_path):
    lines = ["epoch,lr,loss,accuracy,test_accuracy,seconds", "0,0.1,2.5,0.25,,10", "1,0.1,2,0.5,0.75,20"]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    loss, shares, rate = training_curves(tmp_path / "m.csv").axes
    words = [axes.get_ylabel() for axes in (loss, shares, rate)]
    assert words == ["loss", "accuracy and retrieval, %", "learning rate"]
    assert loss.lines[0].get_xydata().tolist() == [[0, 2.5], [1, 2]]
    assert [line.get_label() for line in shares.lines] == ["accuracy", "test accuracy"]
    assert shares.lines[1].get_xydata().tolist() == [[1, 75]]  # the empty field is no point


@pytest.mark.parametrize(("text", "message"), [
    ("step,loss\n0,1\n", "no column 'epoch'"),
    ("epoch,words\n0,1\n", "no column to draw, only epoch, words"),
    ("epoch,loss\n0,much\n", "could not convert string to float: 'much'"),
])
def test_a_csv_that_is_no_training_is_refused(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        training_curves(tmp_path / "m.csv")


def test_precision_against_recall_of_several_evaluations():
    labels = np.repeat([0, 1, 2], 8)
    vectors = np.random.default_rng(0).normal(size=(24, 4)) + 2 * np.eye(4)[labels]
    found = {metric: evaluate(vectors, labels, metric) for metric in ("cosine", "l2")}
    (axes,) = precision_recall(found).axes
    for line, (name, evaluation) in zip(axes.lines, found.items(), strict=True):
        assert np.array_equal(line.get_ydata(), evaluation.precision)
        assert line.get_label() == f"{name}: AUC {100 * evaluation.AUC:.1f}%, mAP {100 * evaluation.mAP:.1f}%"
    with pytest.raises(ValueError, match="evaluations is empty"):
        precision_recall({})


@pytest.mark.parametrize("suffix", figures_module.SUFFIXES)
def test_figures_are_written_whole(tmp_path, suffix):
    save_figure(gallery(Picture(CUBE, "q"), [Picture(CUBE, "a")]), tmp_path / f"g{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == [f"g{suffix}"]


def test_a_name_in_a_script_that_the_font_lacks_is_written_without_a_warning(tmp_path):
    save_figure(gallery(Picture(CUBE, "杯", "杯子"), [Picture(CUBE, "椅", "椅子")]), tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_is_known_before(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="its suffix is '.bmp', expected one of .png, .pdf, .svg"):
        check_picture(tmp_path / "a.bmp")
    with pytest.raises(FileNotFoundError, match="does not exist: make it"):
        check_picture(tmp_path / "absent" / "a.png")
    monkeypatch.setattr(figures_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"pictures need matplotlib: pip install 'sparsenet\[plot\]'"):
        check_picture(tmp_path / "a.png")
