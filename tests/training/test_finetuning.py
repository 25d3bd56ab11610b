"""Fine-tuning: first weights from a file, added classes, frozen layers; averaged weights in checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from small_runs import TRIPLETS, run

import sparsenet as sn
from sparsenet.data import SparseDataset
from sparsenet.training import load_checkpoint, load_network
from sparsenet.training.build import build_network
from sparsenet.training.config import ConfigError
from sparsenet.training.finetuning import freeze, initialise, train_mode


def checkpoint(folder):
    return folder / "best.h5"


def test_all_weights_of_an_equal_network_are_taken(config, whole):
    path = checkpoint(whole[1])
    settings = config(f"network.init_from={path}", "training.seed=5")
    net = build_network(settings, 3)
    before = net.get_weights()
    (line,) = initialise(net, settings, ["bar", "plate", "cross"])
    weights = load_checkpoint(path).weights
    assert line == f"network.init_from: 8 of 8 arrays from {path}"
    for name, array in net.get_weights().items():
        np.testing.assert_array_equal(array, weights[name])
        assert name.endswith("bias") or not np.array_equal(array, before[name])


def test_classes_are_added_and_reordered_by_name(config, whole):
    path = checkpoint(whole[1])
    settings = config(f"network.init_from={path}", "training.seed=5")
    net = build_network(settings, 4)
    fresh = net.get_weights()
    (line,) = initialise(net, settings, ["cross", "sphere", "bar", "plate"])
    assert line.endswith("8 of 8 arrays from " + str(path) + "; 1 new class: sphere")
    weights, found = load_checkpoint(path).weights, net.get_weights()
    for own, given in ((0, 2), (2, 0), (3, 1)):
        np.testing.assert_array_equal(found["linear1.weight"][:, own], weights["linear1.weight"][:, given])
        assert found["linear1.bias"][own] == weights["linear1.bias"][given]
    np.testing.assert_array_equal(found["linear1.weight"][:, 1], fresh["linear1.weight"][:, 1])
    assert found["linear1.bias"][1] == 0


def test_what_does_not_fit_keeps_its_initial_values(config, whole, tmp_path):
    path = checkpoint(whole[1])
    settings = config(f"network.init_from={path}", "network.channels=[4, 6, 9]", "network.norm=batch")
    net = build_network(settings, 2)
    fresh = net.get_weights()
    (line,) = initialise(net, settings, ["bar", "other"])
    assert "2 of 17 arrays" in line and "initial values for convolution1" not in line
    found, weights = net.get_weights(), load_checkpoint(path).weights
    np.testing.assert_array_equal(found["convolution2.weight"], weights["convolution2.weight"])
    np.testing.assert_array_equal(found["convolution3.weight"], fresh["convolution3.weight"])
    np.testing.assert_array_equal(found["linear1.weight"], fresh["linear1.weight"])
    other = config(f"network.init_from={path}", "network.channels=[3, 3, 3]")
    with pytest.raises(ConfigError, match=r"network.init_from: no array of .*best.h5 has the name and shape of one of"):
        initialise(build_network(other, 2), other, ["x", "y"])
    descriptors = config(f"network.init_from={path}", *TRIPLETS)
    net = build_network(descriptors, 3)
    initialise(net, descriptors, ["bar", "plate", "cross"])
    np.testing.assert_array_equal(net.get_weights()["convolution3.bias"], weights["convolution3.bias"])


def test_a_file_of_weights_alone_is_taken_as_it_is(config, tmp_path, whole):
    net, _ = load_network(checkpoint(whole[1]))
    net.save_weights(tmp_path / "w.h5")
    settings = config(f"network.init_from={tmp_path / 'w.h5'}", "training.seed=5")
    other = build_network(settings, 3)
    initialise(other, settings, ["a", "b", "c"])
    assert all(np.array_equal(array, net.get_weights()[name]) for name, array in other.get_weights().items())
    missing = config("network.init_from=nowhere.h5")
    with pytest.raises(FileNotFoundError, match="network.init_from: nowhere.h5: no such file"):
        initialise(other, missing, ["a", "b", "c"])


def test_a_run_begins_there_and_needs_the_file_only_once(config, tmp_path, whole):
    source = tmp_path / "source.h5"
    source.write_bytes(checkpoint(whole[1]).read_bytes())
    overrides = [f"network.init_from={source}", "network.freeze=['convolution1', 'convolution2.*']",
                 "training.epochs=1"]
    lines = []
    result = run(config(*overrides), tmp_path / "run", say=lines.append)
    assert any(line.startswith("network.init_from: 8 of 8 arrays") for line in lines)
    weights = load_checkpoint(source).weights
    for name, array in result.net.get_weights().items():
        assert np.array_equal(array, weights[name]) == name.startswith(("convolution1", "convolution2")), name
    source.unlink()
    run(config(*overrides, "training.epochs=2"), tmp_path / "run", resume=True)
    load_network(tmp_path / "run" / "best.h5")


def test_frozen_norms_keep_their_statistics_and_use_them(config, tmp_path):
    overrides = ["network.norm=batch", "network.freeze=['*_norm1', 'convolution1']", "training.epochs=1"]
    first = build_network(config(*overrides), 3).get_weights()
    found = run(config(*overrides), tmp_path).net.get_weights()
    same = {name for name in first if np.array_equal(first[name], found[name])}
    assert same == {"convolution1.weight", "batch_norm1.weight", "batch_norm1.bias", "batch_norm1.running_mean",
                    "batch_norm1.running_var"}
    net = build_network(config(*overrides), 3)
    freeze(net, ["*_norm1"])
    train_mode(net)
    assert [layer.training for layer in net.layers if layer.kind == "batch_norm"] == [False, True, True]
    assert net.training and net.layers[0].training


@pytest.mark.parametrize(("patterns", "message"), [
    (["convolution9"], "network.freeze: no parameter matches 'convolution9': did you mean convolution1|convolution"),
    (["zzz*"], "no parameter matches 'zzz[*]', expected names such as convolution1, "),
    (["*"], "network.freeze freezes all parameters"),
])
def test_patterns_that_freeze_nothing_or_all_are_refused(patterns, message, config):
    with pytest.raises(ConfigError, match=message):
        freeze(build_network(config(), 3), patterns)


def test_the_average_is_what_a_checkpoint_evaluates(config, tmp_path):
    result = run(config("optimizer.ema=0.5"), tmp_path)
    state = load_checkpoint(tmp_path / "last.h5")
    assert state.updates == 8 and set(state.latest) == set(state.weights)
    assert not np.array_equal(state.latest["convolution1.weight"], state.weights["convolution1.weight"])
    best = load_checkpoint(tmp_path / "best.h5")
    for net in (result.net, load_network(tmp_path / "best.h5")[0]):
        assert all(np.array_equal(array, best.weights[name]) for name, array in net.get_weights().items())
    plain = load_checkpoint(tmp_path / "last.h5").latest
    run(config(), tmp_path / "plain")
    for name, array in load_checkpoint(tmp_path / "plain" / "last.h5").weights.items():
        np.testing.assert_array_equal(array, plain[name], err_msg="an average changes no step")


def test_the_page_adds_a_class_and_keeps_the_others(path, whole):
    text = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    section = text.split("## Fine-tuning")[1].split("\n## ")[0]
    adding, copying = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert '"runs/quickstart/best.h5"' in adding
    names: dict = {}
    exec(adding.replace("runs/quickstart/best.h5", str(checkpoint(whole[1]))), names)
    net, optimizer = names["net"], names["optimizer"]
    before, _ = load_network(checkpoint(whole[1]))
    assert names["classes"] == ["bar", "plate", "cross", "lamp"]
    with SparseDataset.open(path) as dataset:
        batch = next(iter(dataset.subset("train").batches(6, field=net.field)))
        logits = net(batch)
        np.testing.assert_allclose(logits.array[:, :3], before(batch).array, rtol=1e-5, atol=1e-6)
        sn.ops.softmax_cross_entropy(logits, [0, 3, 1, 3, 2, 3]).backward()
    optimizer.step()
    moved = {name for name, array in net.state_dict().items() if name not in before.state_dict()
             or array.shape != before.state_dict()[name].shape or not np.array_equal(array, before.state_dict()[name])}
    assert moved == {"linear1.weight", "linear1.bias"}
    names["state"] = before.state_dict()
    exec(copying, names)
    assert names["missing"] == ["linear1.weight", "linear1.bias"] and names["unexpected"] == []
