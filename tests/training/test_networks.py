"""Networks with batch norm from a config: trained, resumed with the same bits, evaluated and embedded from a file."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from small_runs import TRIPLETS, bits, interrupt, run, stop_in_step

from sparsenet import nn
from sparsenet.cli import main
from sparsenet.kernels import find
from sparsenet.retrieval import Descriptors
from sparsenet.training import load_checkpoint, load_network
from sparsenet.training.config import ConfigError, parse_config

NETWORKS = {"s3dcnn": ["network.norm=batch"], "resnet": ["network.kind=resnet", "network.blocks=2"]}


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
    assert Descriptors.load(out).vectors.shape == (21, 8)


def test_loader_threads_make_all_rulebooks_of_a_residual_network(config, tmp_path, monkeypatch):
    """While it trains: a validation is asked for no gradients, but its rulebooks come from the loader as well."""
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


def test_blocks_are_a_resnets_alone(config):
    with pytest.raises(ConfigError, match="network.blocks is 2, and only a resnet has blocks"):
        config("network.blocks=2")


@pytest.mark.parametrize("size", [1, 29])
def test_a_last_batch_of_one_is_told_before_the_training(size, config, tmp_path):
    """30 objects are trained on."""
    with pytest.raises(ConfigError, match=f"training.batch_size is {size}, and of 30 objects the last batch has one"):
        run(config("network.norm=batch", f"training.batch_size={size}"), tmp_path)
    run(config(f"training.batch_size={size}", "training.epochs=1"), tmp_path)
