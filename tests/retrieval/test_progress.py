"""The progress bar of a pass over a dataset."""

from __future__ import annotations

import io

import numpy as np
import pytest

from sparsenet.data import SparseDataset
from sparsenet.retrieval.progress import Watched


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def shapes(experiment):
    with SparseDataset.open(experiment.dataset) as dataset:
        yield dataset


def test_a_terminal_shows_a_bar_that_goes_when_the_pass_ends(shapes, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert len(list(Watched(shapes, "embed").batches(7))) == 5
    shown = terminal.getvalue()
    assert "embed: " in shown and "/5 " in shown and "batch" in shown
    assert "\n" not in shown and shown.endswith("\r") and not shown.split("\r")[-2].strip()


def test_elsewhere_nothing_is_shown(shapes, capsys):
    assert len(list(Watched(shapes, "embed").batches(7))) == 5
    assert capsys.readouterr() == ("", "")


def test_it_behaves_like_the_dataset(shapes):
    watched = Watched(shapes, "embed")
    assert len(watched) == 30 and watched.classes == shapes.classes
    for found, expected in zip(watched.batches(16), shapes.batches(16), strict=True):
        assert np.array_equal(found.sample_ids, expected.sample_ids)
