"""The training loop on the device "cuda" has the figures of the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.data import SparseDataset
from sparsenet.data.sample import Sample
from sparsenet.training import loop
from sparsenet.training.config import parse_config

TEXT = """
[data]
path = "{path}"
render_size = 0
workers = 0
validation_share = 0.0
[network]
channels = [4, 6]
[training]
epochs = 1
batch_size = 6
[loss]
triplets_per_batch = 3
batches_per_epoch = 2
[optimizer]
lr = 0.1
"""


@pytest.fixture
def path(tmp_path, rng):
    """A dataset of bars and plates in a grid of 5, six of each to train on, two to test on."""
    def samples():
        for number in range(16):
            cells = rng.integers(0, 5, (9, 3))
            cells[:, 0] = 2
            cells[:, 1] = 2 if number % 2 else cells[:, 1]
            split = "train" if number < 12 else "test"
            yield Sample(np.unique(cells, axis=0).astype(np.int32), number % 2, f"shape_{number:02d}", split, number)

    SparseDataset.create(tmp_path / "shapes.h5", samples(), (5, 5, 5), 5, ["plate", "bar"]).close()
    return tmp_path / "shapes.h5"


@pytest.mark.parametrize("kind", ["softmax", "triplet"])
def test_an_epoch_has_the_figures_of_the_cpu(cuda, kind, path, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "draw_figures", lambda *_: None)
    histories = []
    for where in ("cpu", cuda):
        config = parse_config(TEXT.format(path=path), "test", [f"training.device={where}", f"loss.kind={kind}"])
        result = loop.train(config, tmp_path / where, progress=False, say=lambda line: None)
        histories.append(result.history[0])
    on_cpu, on_cuda = histories
    assert on_cuda["loss"] == pytest.approx(on_cpu["loss"], rel=1e-4)
    assert on_cuda.get("accuracy") == on_cpu.get("accuracy")
