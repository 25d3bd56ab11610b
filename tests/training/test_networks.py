"""Networks with batch norm from a config: trained, resumed with the same bits, evaluated and embedded from a file."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest
from small_runs import TRIPLETS, bits, interrupt, run, stop_in_step

from sparsenet import nn
from sparsenet.cli import main
from sparsenet.data import SparseDataset
from sparsenet.kernels import find
from sparsenet.nn.layer_list import grids
from sparsenet.retrieval import Descriptors
from sparsenet.retrieval.embedding import descriptor_layer
from sparsenet.training import load_checkpoint, load_network
from sparsenet.training.build import build_network, check_field
from sparsenet.training.config import ConfigError, parse_config
from sparsenet.training.finetuning import freeze
from sparsenet.training.schema import NetworkConfig

LISTED = """[
    {kind = "submanifold", channels = 4, size = 3, bias = false}, "batch_norm", "relu",
    {kind = "residual", layers = [
        {kind = "convolution", channels = 6, size = 2, stride = 2}, "batch_norm", "relu"
    ], shortcut = [{kind = "max_pool", size = 2}, {kind = "convolution", channels = 6, size = 1}]},
    {kind = "residual", layers = [{kind = "residual", layers = [{kind = "submanifold", channels = 6, size = 3}]}]},
    {kind = "convolution", channels = 8, size = [2, 2, 2], stride = 2}]
"""
DEFAULT = f"network.channels={list(NetworkConfig().channels)}"
LAYERS = ["network.kind=layers", "network.field=12", f"network.layers={LISTED}", DEFAULT]
IMAGES = ["network.kind=layers", "network.field=10", DEFAULT, """network.layers=[
    {kind = "depth_images", count = 4}, {kind = "convolution", channels = 6, size = 3, stride = 2}, "batch_norm",
    "relu", {kind = "convolution", channels = 8, size = 3}, {kind = "global_pool", mode = "max"}, "image_pool"]"""]
NETWORKS = {"s3dcnn": ["network.norm=batch"], "resnet": ["network.kind=resnet", "network.blocks=2"], "layers": LAYERS,
            "unet": ["network.kind=unet", "network.field=12"], "images": IMAGES}


def statistics_of(weights):
    return {name: array for name, array in weights.items() if "running_" in name}


@pytest.mark.parametrize("triplets", [[], TRIPLETS], ids=["classifier", "triplets"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_stopped_and_resumed_it_gives_the_same_bits(kind, triplets, config, tmp_path, monkeypatch):
    overrides = [*NETWORKS[kind], *triplets]
    run(config(*overrides), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_in_step(patch, 2, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(config(*overrides), tmp_path / "stopped")
    half = statistics_of(load_checkpoint(tmp_path / "stopped" / "last.h5").weights)
    run(config("data.workers=2", *overrides), tmp_path / "stopped", resume=True)
    assert bits(tmp_path / "stopped") == bits(tmp_path / "whole")
    end = statistics_of(load_checkpoint(tmp_path / "stopped" / "last.h5").weights)
    assert half and all(not np.array_equal(half[name], end[name]) for name in half)


@pytest.mark.parametrize("kind", NETWORKS)
def test_activations_that_are_computed_again_change_no_bit_and_may_be_switched_on_later(kind, config, tmp_path):
    overrides = [*NETWORKS[kind], "training.epochs=1"]
    run(config(*overrides), tmp_path / "kept")
    run(config(*overrides, "training.recompute=2"), tmp_path / "again")
    assert bits(tmp_path / "again") == bits(tmp_path / "kept")
    run(config(*overrides, "training.max_seconds=1e-9"), tmp_path / "later")
    result = run(config(*overrides, "training.recompute=100"), tmp_path / "later", resume=True)
    assert bits(tmp_path / "later") == bits(tmp_path / "kept") and result.net.recompute == 100


def test_listed_layers_are_in_the_checkpoint_and_embed_before_the_classifier(config, path, tmp_path):
    run(config(*LAYERS), tmp_path)
    net, state = load_network(tmp_path / "best.h5")
    assert net.names() == ["submanifold1", "batch_norm1", "relu1", "residual1", "residual2", "convolution1",
                           "global_pool1", "dropout1", "linear1"]
    assert net.field == (12, 12, 12) and descriptor_layer(net) == 6
    assert parse_config(state.config, "its own text") == config(*LAYERS)
    trained = parse_config(state.config, "its own text")
    assert '    {kind = "submanifold", channels = 4, size = 3, bias = false},\n' in trained.text()
    with pytest.raises(ConfigError, match=r"network.layers is \[ \{kind = .* and was \["):
        run(config(*LAYERS, "network.layers=['relu']"), tmp_path, resume=True)


def test_descriptors_of_triplets_come_from_the_last_layer_even_if_it_is_linear(config):
    layers = "[{kind='convolution', channels=4, size=2}, 'global_pool', {kind='linear', channels=5}]"
    overrides = [LAYERS[0], f"network.layers={layers}", DEFAULT, "network.dropout=0.0"]
    net = build_network(config(*overrides, *TRIPLETS), 3)
    assert len(net.layers) == descriptor_layer(net) == 3
    classifier = build_network(config(*overrides), 3)
    assert len(classifier.layers) == 4 and descriptor_layer(classifier) == 3


def test_the_grid_of_listed_layers_comes_down_to_one_cell_or_has_the_sides_of_the_config(config, path):
    layers = "network.layers=[{kind='convolution', channels=4, size=3, stride=2}, {kind='max_pool', size=3}]"
    assert build_network(config(LAYERS[0], layers, DEFAULT), 3).field == (7, 7, 7)
    with SparseDataset.open(path) as shapes:
        small = config(LAYERS[0], layers, DEFAULT)
        with pytest.raises(ConfigError, match=r"sides of 7: shapes would be cropped.* or a larger network.field"):
            check_field(small, shapes, build_network(small, 3))
    assert build_network(config(LAYERS[0], layers, DEFAULT, "network.field=20"), 3).field == (20, 20, 20)
    resnet = ["network.kind=resnet", "network.field=24"]
    assert build_network(config(*resnet), 3).field == (24, 24, 24)
    finer = "network.layers=[{kind='average_pool', size=2}, {kind='upsample', scale_factor=2}, 'global_pool']"
    assert build_network(config(LAYERS[0], finer, DEFAULT, "network.field=12"), 3).field == (12, 12, 12)
    with pytest.raises(ConfigError, match="network.field is 0, expected the sides of the input grid: .* an Upsample"):
        build_network(config(LAYERS[0], finer, DEFAULT), 3)
    with pytest.raises(ConfigError, match=r"grid with sides of 6: layer 2 \(max_pool\): .* does not fit a grid"):
        build_network(config(LAYERS[0], layers, DEFAULT, "network.field=6"), 3)


@pytest.mark.parametrize(("overrides", "message"), [
    (["network.kind=layers"], "network.kind is layers, and network.layers is empty"),
    (["network.layers=['relu']"], "network.layers is set, and network.kind is s3dcnn"),
    (["network.kind=layers", "network.layers=['relu']"], "network.channels has no effect on a network of kind layers"),
    (["network.field=30"], "network.field has no effect on a network of kind s3dcnn"),
    ([*LAYERS, "network.norm=batch"], "network.norm has no effect on a network of kind layers"),
    ([*LAYERS, "network.layers=3"], "network.layers is 3, expected a list of layers"),
    ([*LAYERS, "network.layers=['relu', {kind='convolutoin'}]"],
     "network.layers: layer 2: kind is 'convolutoin': did you mean convolution?"),
    ([*LAYERS, "network.layers=[{kind='convolution', channels=3, size=2, strid=2}]"],
     r"network.layers: layer 1 \(convolution\): strid is not a key: did you mean stride\?"),
])
def test_what_is_wrong_with_listed_layers_is_told_with_its_key(overrides, message, config):
    with pytest.raises(ConfigError, match=message):
        config(*overrides)


def test_images_are_pooled_for_each_sample(config):
    net = build_network(config(*IMAGES), 3)
    assert net.names()[-5:] == ["convolution2", "global_pool1", "image_pool1", "dropout1", "linear1"]
    assert descriptor_layer(net) == len(net.layers) - 2 and net.field == (10, 10, 10)
    alone = "network.layers=[{kind='depth_images'}, {kind='convolution', channels=4, size=3}]"
    with pytest.raises(ConfigError, match="network.layers has depth_images and no image_pool behind them"):
        build_network(config(*IMAGES, alone), 3)
    with pytest.raises(ConfigError, match="network.field is 0, expected the sides of the input grid: .* DepthImages"):
        build_network(config(*IMAGES, "network.field=0"), 3)


@pytest.mark.parametrize("kind", NETWORKS)
def test_its_checkpoint_evaluates_as_the_training_did_and_embeds(kind, config, tmp_path, path, capsys):
    result = run(config(*NETWORKS[kind]), tmp_path / "run")
    net, state = load_network(tmp_path / "run" / "best.h5")
    assert [layer.kind for layer in net.layers] == [layer.kind for layer in result.net.layers]
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm)]
    assert norms and not any(module.training for module in net.modules())
    assert len(statistics_of(state.weights)) == 2 * len(norms)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, state.weights[name])
    checkpoint, out = tmp_path / "run" / "best.h5", tmp_path / "d.h5"
    assert main(["evaluate", str(checkpoint), "--json", str(tmp_path / "e.json"), "--quiet"]) == 0
    assert f"accuracy {100 * result.figures['test_accuracy']:.2f}" in capsys.readouterr().out
    assert main(["embed", str(checkpoint), str(out), "--quiet"]) == 0
    assert Descriptors.load(out).vectors.shape == (21, 4 if kind == "unet" else 8)


def test_loader_threads_make_all_rulebooks_of_a_residual_network(config, tmp_path, monkeypatch):
    """A validation during training computes no gradients, but its rulebooks come from the loader as well."""
    made = {"output_keys": set(), "neighbours": set(), "pairs": set(), "transpose_neighbours": set()}
    for name, threads in made.items():
        kernel = find(name)
        real = kernel.on("cpu")

        def counted(*arguments, threads=threads, real=real):
            threads.add(threading.current_thread().name.split("_")[0])
            return real(*arguments)

        monkeypatch.setitem(kernel.implementations, "cpu", counted)
    run(config("data.workers=1", "training.epochs=1", *NETWORKS["resnet"]), tmp_path)
    assert made["output_keys"] == {"sparsenet-loader"}
    assert all(threads <= {"sparsenet-loader"} for threads in made.values()), made


def test_a_checkpoint_of_before_these_keys_is_of_the_papers_network(config):
    text = "\n".join(line for line in config().text().splitlines()
                     if line.split(" =")[0] not in ("kind", "norm", "blocks"))
    older = parse_config(text, "older")
    assert (older.network.kind, older.network.norm) == ("s3dcnn", "none")


def test_blocks_are_those_of_a_resnet_or_unet(config):
    with pytest.raises(ConfigError, match="network.blocks is 2, and only a resnet or unet has blocks"):
        config("network.blocks=2")
    assert config("network.blocks=2", "network.kind=unet").network.blocks == 2


@pytest.mark.parametrize(("size", "field"), [(9, 12), (8, 8), (13, 16)])
def test_the_grid_of_a_unet_is_halved_at_each_level_and_holds_the_shapes(size, field, config):
    unet = ["network.kind=unet", f"data.render_size={size}"]
    assert build_network(config(*unet), 3).field == (field,) * 3
    assert build_network(config(*unet, "network.field=30"), 3).field == (30,) * 3
    with pytest.raises(ConfigError, match="data.render_size and network.field are 0, so the grid of the unet is unk"):
        build_network(config(unet[0]), 3)
    with pytest.raises(ConfigError, match=r"grid with sides of 3: layer 6 \(skip\): .* does not fit a grid"):
        build_network(config(*unet, "network.field=3"), 3)


@pytest.mark.parametrize("size", [1, 29])
def test_a_last_batch_of_one_is_told_before_the_training(size, config, tmp_path):
    """30 objects are trained on."""
    lone = [LAYERS[0], DEFAULT, "network.layers=[{kind='convolution', channels=4, size=8}, 'batch_norm', 'relu']"]
    for overrides in (["network.norm=batch"], lone):
        with pytest.raises(ConfigError, match=f"batch_size is {size}, and of 30 objects the last batch has one"):
            run(config(*overrides, f"training.batch_size={size}"), tmp_path)
    run(config(f"training.batch_size={size}", "training.epochs=1"), tmp_path)


def test_the_configs_of_the_documentation_are_configs():
    text = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    listed, combined, tuned = (parse_config(block if "[data]" in block else '[data]\npath = "x"\n' + block, "docs")
                               for block in blocks)
    assert grids(build_network(listed, 3), (24, 24, 24))[-3] == (6, 6, 6)
    assert [(term["kind"], term["weight"]) for term in combined.loss.terms] == [("cosine_softmax", 1.0),
                                                                                ("contrastive", 0.5)]
    net = build_network(tuned, 11)
    freeze(net, tuned.network.freeze)
    assert [name for name, parameter in net.named_parameters() if not parameter.requires_grad] == [
        "convolution1.weight", "convolution1.bias", "convolution2.weight", "convolution2.bias"]
