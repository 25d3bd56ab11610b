"""A step in shards has the gradient of the whole batch: for each loss, norm and setting, in float64."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from rank_threads import as_ranks
from reference import assert_close
from small_runs import MINED, TRIPLETS, run

from sparsenet import Tensor
from sparsenet.autograd import no_grad
from sparsenet.backend import array_module
from sparsenet.data import Sample, SparseDataset
from sparsenet.data.batch import ShardedBatch, shard_rows
from sparsenet.optim import clip_gradients
from sparsenet.training.build import build_batching, build_network
from sparsenet.training.config import ConfigError
from sparsenet.training.finetuning import freeze, train_mode
from sparsenet.training.losses import Criterion, class_names
from sparsenet.training.ranks import Ranks
from sparsenet.training.shards import GivenGradient, ShardedStep

BALANCED = ["training.batch_size=9", "loss.classes_per_batch=3"]
SEGMENTATION = ["loss.kind=segmentation", "network.kind=layers", "network.field=6", "loss.class_weights=balanced",
                "network.channels=[32,64,96,128,160,192]",
                "network.layers=[{kind='submanifold', channels=3, size=3}, 'relu']", "network.dropout=0"]
LOSSES = {
    "softmax": [],
    "smoothed and weighted": ["loss.label_smoothing=0.1", "loss.class_weights=balanced"],
    "cosine": ["loss.terms=[{kind = 'cosine_softmax', scale = 8, margin = 0.2}]"],
    "segmentation": SEGMENTATION,
    "triplets": [*TRIPLETS, "network.dropout=0"],
    "mined hard": [*TRIPLETS, *MINED, "network.dropout=0"],
    "mined semi-hard": ["loss.terms=[{kind = 'triplet', margin = 2}]", *BALANCED, "network.dropout=0"],
    "contrastive": ["loss.terms=[{kind = 'contrastive', weight = 0.5}]", "network.projection=3", *BALANCED,
                    "network.dropout=0"],
    "centre": ["loss.terms=[{kind = 'centre', weight = 0.1}]", "network.dropout=0"],
    "triplet-centre": ["loss.terms=[{kind = 'triplet_centre', margin = 1}]", "network.dropout=0"],
    "proxy-anchor": ["loss.terms=[{kind = 'proxy_anchor', weight = 0.2}]", "network.dropout=0"],
    "a sum, and the pose": ["loss.terms=[{kind = 'softmax'}, {kind = 'centre', weight = 0.1}, {kind = 'proxy_anchor', "
                            "weight = 0.2}, {kind = 'contrastive'}]", "network.projection=5", "loss.pose_weight=0.3",
                            *BALANCED],
}
NORMS = ["batch_norm", "instance_norm", "layer_norm", "{kind='group_norm', groups=2}",
         "{kind='batch_norm', statistics='grid'}", "{kind='instance_norm', statistics='grid'}"]


@pytest.fixture(scope="module")
def parts_path(tmp_path_factory):
    """Shapes whose sites are of two parts or unknown; one shape has no known site, one no site."""
    rng = np.random.default_rng(3)

    def samples():
        for number in range(14):
            cells = np.argwhere(rng.random((6, 6, 6)) < (0.1 if number % 7 else 0.0)).astype(np.int32)
            labels = np.full(len(cells), -1) if number == 1 else rng.integers(-1, 2, len(cells))
            yield Sample(cells, -1, str(number), "train" if number < 9 else "test", site_labels=labels)

    path = tmp_path_factory.mktemp("parts") / "parts.h5"
    SparseDataset.create(path, samples(), (6, 6, 6), 6, [], part_classes=["low", "high"]).close()
    return path


class Made:
    """Network and criterion of a config in float64, and a batch of its training set, whole and in shards."""

    def __init__(self, config, dataset):
        self.config = config
        training = dataset.subset("train")
        self.net = build_network(config, len(class_names(config, training))).to("cpu", "float64")
        self.criterion = Criterion(config, self.net, training).to("cpu", "float64")
        self.parameters = [*self.net.parameters(), *self.criterion.parameters()]
        train_mode(self.net)
        options = build_batching(config, training, self.net)
        sharded = options.pop("shards")
        self.whole = widened(next(training.batches(**options, epoch=1)))
        self.shards = sharded[0]
        batch = next(training.batches(**options, epoch=1, shards=sharded))
        self.batch = ShardedBatch({shard: widened(one) for shard, one in batch.shards.items()}, batch.labels)

    def step(self, ranks=None):
        return ShardedStep(self.config, self.net, self.criterion, ranks or Ranks(shards=self.shards))

    def gradients(self):
        found = [one.grad for one in self.parameters]
        for one in self.parameters:
            one.grad = None
        return found

    def expected(self):
        """The figures and gradients of the whole batch at once, each sample with its own draws of dropout."""
        self.net.reseed(self.config.training.seed, 1, 2, rows=range(len(self.whole)))
        loss, figures = self.criterion.loss(self.net, self.whole)
        loss.backward()
        return figures, self.gradients()


def widened(batch):
    x = batch.input
    background = Tensor(x.background.array.astype(np.float64))
    return replace(batch, input=x.with_features(Tensor(x.features.array.astype(np.float64)), background))


@pytest.mark.parametrize("shards", [2, 5, 40])
@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_and_its_gradient_are_those_of_the_whole_batch(name, shards, config, path, parts_path):
    """40 shards of batches of 8, 9 or 18: most are empty."""
    own = parts_path if name == "segmentation" else path
    with SparseDataset.open(own) as dataset:
        made = Made(config(f"data.path={own}", f"training.shards={shards}", *LOSSES[name]), dataset)
        figures, expected = made.expected()
        assert any(one is not None and abs(one).max() > 1e-4 for one in expected)
        assert_close(made.step()(made.batch, 1, 2), figures, 1e-10)
        for found, one in zip(made.gradients(), expected, strict=True):
            assert (found is None) == (one is None)
            if one is not None:
                assert_close(found, one, 1e-10)


@pytest.mark.parametrize("norm", NORMS)
def test_norms_take_their_statistics_in_each_shard(norm, config, path):
    """Against each shard run alone; a norm of each sample has the gradient of the whole batch, too."""
    written = norm if norm.startswith("{") else f"'{norm}'"
    layers = (f"[{{kind='convolution', channels=4, size=3, bias=false}}, {written}, 'relu', "
              "{kind='max_pool', size=2}]")
    with SparseDataset.open(path) as dataset:
        made = Made(config("network.kind=layers", f"network.layers={layers}", "network.channels=[32,64,96,128,160,192]",
                           "network.field=8",
                           "training.shards=3", "network.dropout=0"), dataset)
        before = made.net.state_dict()
        total, moved = [np.zeros(one.shape) for one in made.parameters], {}
        for shard, one in made.batch.shards.items():
            made.net.load_state_dict(before)
            share = len(shard_rows(shard, 3, 8)) / 8
            (made.criterion.loss(made.net, one)[0] * share).backward()
            total = [a + b for a, b in zip(total, made.gradients(), strict=True)]
            for name, buffer in made.net.named_buffers():
                moved[name] = moved.get(name, 0.0) + share * buffer.array
        made.net.load_state_dict(before)
        made.step()(made.batch, 1, 2)
        for found, one in zip(made.gradients(), total, strict=True):
            assert_close(found, one, 1e-10)
        assert bool(moved) == ("batch_norm" in norm)
        for name, buffer in made.net.named_buffers():
            assert_close(buffer.array, moved[name], 1e-12)
            assert not np.array_equal(buffer.array, before[name])
        if "batch_norm" not in norm:
            for found, one in zip(made.expected()[1], total, strict=True):
                assert_close(found, one, 1e-10)


@pytest.mark.parametrize("name", ["a sum, and the pose", "softmax"])
def test_activation_checkpointing_changes_no_bit(name, config, path):
    found = []
    for recompute in (0, 2):
        with SparseDataset.open(path) as dataset:
            made = Made(config("training.shards=3", "network.norm=batch", *LOSSES[name], "training.batch_size=21"),
                        dataset)
            made.net.recompute = recompute
            figures = made.step()(made.batch, 1, 2)
            found.append([figures.tobytes(), *(one.tobytes() for one in made.gradients()),
                          *(one.array.tobytes() for one in made.net.buffers())])
    assert found[0] == found[1]


def test_frozen_parameters_have_no_gradient_and_frozen_norms_do_not_move(config, path):
    with SparseDataset.open(path) as dataset:
        made = Made(config("training.shards=2", "network.norm=batch", "training.batch_size=20"), dataset)
        freeze(made.net, ["convolution1", "batch_norm1"])
        train_mode(made.net)
        made.net.layers[1].running_mean.array = np.full(4, 1 / 3)
        made.step()(made.batch, 1, 2)
        named = dict(made.net.named_parameters())
        assert {name for name, one in named.items() if one.grad is None} == {
            "convolution1.weight", "batch_norm1.weight", "batch_norm1.bias"}
        assert (made.net.layers[1].running_mean.array == 1 / 3).all()
        assert clip_gradients(made.parameters, 1e9) > 0


def test_a_sample_draws_the_same_dropout_in_any_number_of_shards(config, path):
    found = {}
    for shards in (2, 3, 8):
        with SparseDataset.open(path) as dataset:
            made = Made(config(f"training.shards={shards}", "network.dropout=0.5"), dataset)
            found[shards] = made.step()(made.batch, 1, 2)
    assert_close(found[2], found[3], 1e-12)
    assert_close(found[2], found[8], 1e-12)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "segmentation"])
def test_ranks_agree_on_every_bit_of_a_step(name, config, path):
    """With four ranks a shard is run once; with fewer, those of losses that compare samples are run twice."""
    def work(ranks):
        with SparseDataset.open(path) as dataset:
            made = Made(config("training.shards=4", "network.norm=batch", "training.batch_size=15", *LOSSES[name]),
                        dataset)
            own = ShardedBatch({shard: made.batch.shards[shard] for shard in ranks.own}, made.batch.labels)
            figures = made.step(ranks)(own, 1, 2)
            return [figures.tobytes(), *(one.tobytes() for one in made.gradients()),
                    *(one.array.tobytes() for one in made.net.buffers())]

    everywhere = [result for size in (1, 2, 3, 4) for result in as_ranks(size, 4, work)]
    assert all(result == everywhere[0] for result in everywhere)


@pytest.mark.parametrize(("name", "recompute", "expected"), [
    ("softmax", 0, {1: 4, 2: 2, 4: 1}), ("contrastive", 0, {1: 8, 2: 4, 4: 1}),
    ("proxy-anchor", 2, {1: 8, 2: 4, 4: 1})])
def test_shards_run_twice_only_if_samples_are_compared_and_a_rank_has_several(name, recompute, expected, config, path):
    def work(ranks):
        with SparseDataset.open(path) as dataset:
            made = Made(config("training.shards=4", *LOSSES[name]), dataset)
            made.net.recompute = recompute
            seen, view = [], made.criterion.view
            made.criterion.view = lambda net, batch: seen.append(len(batch)) or view(net, batch)
            made.step(ranks)(ShardedBatch({shard: made.batch.shards[shard] for shard in ranks.own}, made.batch.labels),
                             1, 2)
            return len(seen)

    for size, times in expected.items():
        assert as_ranks(size, 4, work) == [times] * size


@pytest.mark.parametrize("name", ["softmax", "contrastive"])
def test_more_shards_take_less_memory(name, config, path):
    """Gradient accumulation: one graph at a time, also if samples of the whole batch are compared."""
    peaks = {}
    for shards in (2, 16):
        with SparseDataset.open(path) as dataset:
            made = Made(config(f"training.shards={shards}", *LOSSES[name], "network.channels=[16,16,16]",
                               "training.batch_size=48"), dataset)
            made.step()(made.batch, 1, 2)
            made.gradients()
            tracemalloc.start()
            try:
                made.step()(made.batch, 1, 2)
                peaks[shards] = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert peaks[16] < peaks[2] / 2


def test_a_given_gradient_reaches_its_input():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    given = np.arange(6.0).reshape(2, 3)
    (GivenGradient(given).apply(x) + x.sum()).backward()
    np.testing.assert_array_equal(x.grad, given + 1)
    with no_grad():
        assert GivenGradient(given).apply(x).item() == 0 and array_module(x.array) is np


@pytest.mark.parametrize(("overrides", "size"), [
    (["training.batch_size=8"], 8), (["training.batch_size=13"], 4)])
def test_shards_of_one_row_are_refused_before_training(config, tmp_path, overrides, size):
    """39 of which 9 are held out leave 30 objects: batches of 13, 13 and 4."""
    with pytest.raises(ConfigError, match=f"training.shards is 5, and a batch of {size} samples leaves one"):
        run(config("network.norm=batch", "training.shards=5", *overrides), tmp_path)


def test_one_shard_is_the_default(config):
    assert config().training.shards == 1
    with pytest.raises(ConfigError, match="training.shards is 0, expected at least 1"):
        config("training.shards=0")
