"""The dataset and the config of small trainings."""

from __future__ import annotations

import pytest
from small_runs import TEXT, make, run

from sparsenet.training import loop
from sparsenet.training.config import parse_config


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    """A dataset of 39 objects in two poses for training, of which 30 remain when a fifth is held out, and 21 to test
    on; one of each is empty."""
    return make(tmp_path_factory.mktemp("data") / "shapes.h5", train=39, test=21)


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """Pictures take longer than these trainings do: one test draws them."""
    if request.function.__name__ != "test_curves_are_drawn":
        monkeypatch.setattr(loop, "draw_figures", lambda *_: None)


@pytest.fixture
def config(path):
    return lambda *overrides: parse_config(TEXT.format(path=path), "test", overrides)


@pytest.fixture(scope="session")
def whole(path, tmp_path_factory):
    """The result and the folder of a training that nothing stopped: not to be written to."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_figures", lambda *_: None)
        return run(parse_config(TEXT.format(path=path), "test"), out), out
