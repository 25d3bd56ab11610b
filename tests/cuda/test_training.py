"""The training loop on the device "cuda" has the figures of the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.data import SparseDataset
from sparsenet.data.sample import Sample
from sparsenet.training import load_checkpoint, load_network, loop
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


TERMS = ['loss.terms=[{kind = "softmax"}, {kind = "centre"}, {kind = "contrastive"}]', "loss.classes_per_batch=2",
         "network.projection=3", "loss.triplets_per_batch=30"]  # 30: the default, which the file above changes


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


@pytest.mark.parametrize(("precision", "overrides"), [
    ("float16", ["network.norm=batch", "optimizer.ema=0.5", "optimizer.kind=adamw", "optimizer.lr=0.01"]),
    ("float16", TERMS), ("fp16", ["optimizer.max_gradient_norm=0.01"]),
], ids=["float16", "float16 terms", "fp16"])
def test_lower_precision_follows_float32_and_resumes_with_the_same_bits(cuda, precision, overrides, path, tmp_path,
                                                                        monkeypatch):
    """The loss is scaled by 1024, which neither clipping nor the step may notice."""
    monkeypatch.setattr(loop, "draw_figures", lambda *_: None)

    def train(name, *more, **options):
        config = parse_config(TEXT.format(path=path), "test", [*overrides, *more])
        loop.train(config, tmp_path / name, progress=False, say=lambda line: None, **options)
        return load_checkpoint(tmp_path / name / "last.h5")

    lower = "training.device=cuda", f"training.precision={precision}"
    exact, whole = train("exact"), train("whole", *lower)
    assert whole.history[0]["loss"] == pytest.approx(exact.history[0]["loss"], rel=0.02)
    for name, array in exact.momentum.items():
        if name.endswith((".weight", ".weight.mean")):
            assert np.linalg.norm(whole.momentum[name] - array) < 0.05 * np.linalg.norm(array), name
    stored = whole.latest or whole.weights
    assert {array.dtype for array in stored.values()} == {np.dtype("float16" if precision == "float16" else "float32")}
    masters = [name for name in whole.momentum if name.endswith(".master")]
    assert len(masters) == (len([n for n in stored if "running" not in n]) if precision == "float16" else 0)
    assert f'precision = "{precision}"' in whole.config
    train("stopped", *lower, "training.max_seconds=1e-9")
    stopped = train("stopped", *lower, resume=True)
    assert (stopped.epoch, stopped.step) == (1, 0)
    for part in ("weights", "latest", "momentum"):
        found = {name: array.tobytes() for name, array in getattr(stopped, part).items()}
        assert found == {name: array.tobytes() for name, array in getattr(whole, part).items()}, part
    net, state = load_network(tmp_path / "whole" / "best.h5")
    assert next(iter(net.parameters())).dtype == np.float32 and state.classes == ["plate", "bar"]
