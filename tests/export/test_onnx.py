"""ONNX files: onnxruntime computes from the dense grid what the sparse network computes from its sites."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import reference
from export_cases import BACKGROUND, NETWORKS, SIDE, batch, dense_output, network, on_zeros, trained, transposed

import sparsenet as sn
from sparsenet.cli import main
from sparsenet.export.onnx_nodes import OnnxNodes
from sparsenet.training import Checkpoint, build_network, parse_config, save_checkpoint
from sparsenet.training.losses import classifies

needs_onnx = pytest.mark.extra("onnx-test")
TOLERANCE = 1e-5  # float32 in another order
CONFIG = "[data]\npath = 'shapes.h5'\n[network]\nchannels = [2, 3]\n[loss]\nkind = '{kind}'\n"


def run(path, grid: np.ndarray) -> np.ndarray:
    import onnxruntime

    (found,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["output"], {"grid": grid})
    return found


def properties(path) -> dict:
    import onnx

    return {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}


@needs_onnx
@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_computes_the_same(name, dimension, rng, tmp_path):
    net, x = trained(NETWORKS[name](dimension), rng), batch(dimension, rng)
    sn.export.onnx(net, tmp_path / "net.onnx", background=BACKGROUND)
    expected = dense_output(net, x)
    for samples in (slice(0, 3), slice(0, 1)):  # any number of samples
        found = run(tmp_path / "net.onnx", x.to_dense().numpy()[samples])
        assert found.dtype == np.float32 and reference.relative_error(found, expected[samples]) < TOLERANCE


@needs_onnx
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_a_transposed_convolution(dimension, groups, rng, tmp_path):
    net, x = trained(transposed(dimension, groups), rng), on_zeros(batch(dimension, rng))
    sn.export.onnx(net, tmp_path / "net.onnx")
    found = run(tmp_path / "net.onnx", x.to_dense().numpy())
    assert reference.relative_error(found, dense_output(net, x)) < TOLERANCE
    with pytest.raises(ValueError, match="transposed_convolution1: TransposedConv: the input's background is not zero"):
        sn.export.onnx(net, tmp_path / "net.onnx", background=BACKGROUND)


@needs_onnx
@pytest.mark.parametrize(("background", "operators"), [
    ([0, 0], ["Conv"]), ([0.7, 0.7], ["Pad", "Conv"]),
    ([0.7, 0], ["ConstantOfShape", "Pad", "Mul", "Pad", "Add", "Conv"])])
def test_padding_with_the_background(background, operators, rng, tmp_path):
    import onnx

    net = trained(network(2).add_convolution(3, 3, padding=(1, 2)), rng)
    sn.export.onnx(net, tmp_path / "net.onnx", background=background)
    assert [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node] == [*operators, "Identity"]
    given = batch(2, rng)
    x = given.with_features(given.features, sn.Tensor(np.array(background, "f4")))
    assert reference.relative_error(run(tmp_path / "net.onnx", x.to_dense().numpy()), dense_output(net, x)) < TOLERANCE


@needs_onnx
@pytest.mark.parametrize(("spatial_size", "operators"), [
    (None, ["Resize"]), (18, ["Resize"]), ((18, 17), ["Resize", "Slice"]), ((17, 20), ["Pad", "Resize", "Slice"])])
def test_nearest_upsampling(spatial_size, operators, rng, tmp_path):
    import onnx

    net, x = network(2).add_upsample(2, spatial_size), batch(2, rng)
    sn.export.onnx(net, tmp_path / "net.onnx", background=[0.3, 0.3])
    assert [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node] == [*operators, "Identity"]
    x = x.with_features(x.features, sn.Tensor(np.full(2, 0.3, "f4")))
    assert np.array_equal(run(tmp_path / "net.onnx", x.to_dense().numpy()), dense_output(net, x))


@needs_onnx
def test_four_dimensions_where_the_runtime_has_them(rng, tmp_path):
    """Its poolings have at most three."""
    net = network(4).add_convolution(3, 3, padding=1).add_linear(2, on_sites=True).add_upsample(2, 11).add_prelu()
    net = trained(net.add_linear(2), rng)
    sn.export.onnx(net, tmp_path / "net.onnx")
    x = sn.SparseTensor.from_dense(rng.standard_normal((2, 2, *[SIDE] * 4)).astype("f4"))
    assert reference.relative_error(run(tmp_path / "net.onnx", x.to_dense().numpy()), dense_output(net, x)) < TOLERANCE


@needs_onnx
@pytest.mark.parametrize("length", [0.0, 1e-30, 1e30])
def test_cosines_of_rows_of_any_length(length, rng, tmp_path):
    net = trained(network(1).add_global_pool("max").add_cosine_linear(3), rng)
    sn.export.onnx(net, tmp_path / "net.onnx")
    grid = np.full((1, 2, SIDE), length, "f4")
    expected = dense_output(net, sn.SparseTensor.from_dense(grid))
    assert np.abs(expected).max() == 0 if length == 0 else np.abs(expected).max() > 1
    np.testing.assert_allclose(run(tmp_path / "net.onnx", grid), expected, rtol=1e-5, atol=1e-5)


@needs_onnx
def test_a_network_in_float64_is_written_in_float32(rng, tmp_path):
    net, x = trained(NETWORKS["mean pooled"](2), rng, "float64"), batch(2, rng, "float64")
    sn.export.onnx(net, tmp_path / "net.onnx", background=BACKGROUND)
    found = run(tmp_path / "net.onnx", x.to_dense().numpy().astype("f4"))
    assert reference.relative_error(found, dense_output(net, x)) < TOLERANCE
    net.layers[0].weight.array[0, 0, 0] = 1e200
    with pytest.raises(ValueError, match=r"convolution1\.weight has numbers beyond the range of float32"):
        sn.export.onnx(net, tmp_path / "net.onnx")


@needs_onnx
def test_the_file_says_what_it_holds(rng, tmp_path):
    import onnx

    net = trained(NETWORKS["padded"](2), rng)
    for name in ("a", "b"):
        sn.export.onnx(net, tmp_path / name, background=BACKGROUND, metadata={"classes": ["chair", "lämp"], "n": 3})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    model = onnx.load(tmp_path / "a")
    assert (model.producer_name, model.producer_version) == ("sparsenet", sn.__version__)
    background = BACKGROUND.astype("f4").tolist()
    assert properties(tmp_path / "a") == {"field": [SIDE, SIDE], "background": background, "n": 3,
                                          "classes": ["chair", "lämp"]}
    assert {node.name for node in model.graph.node} >= set(net.names())
    (given,), (found,) = model.graph.input, model.graph.output
    shapes = [[axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in
              (given, found)]
    assert shapes == [["batch", 2, SIDE, SIDE], ["batch", 5, 4, 4]]


@needs_onnx
def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist: make it"):
        sn.export.onnx(network(1).add_relu(), tmp_path / "absent" / "net.onnx")


def test_without_onnx_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"onnx, which is not installed: pip install 'sparsenet\[onnx\]'"):
        sn.export.onnx(network(1).add_relu(), tmp_path / "net.onnx")


def test_an_operation_that_onnx_does_not_know_here(rng):
    from sparsenet.export.dense import dense_graph

    graph = dense_graph(network(1).add_relu())
    graph.append("fold", "fold1", (graph.output,), graph.output.sample)
    with pytest.raises(ValueError, match="fold1: fold is not an operation of ONNX that is known here, expected one of"):
        OnnxNodes().add(graph.nodes[-1])


class TestCommand:
    @staticmethod
    def checkpoint(folder, kind="softmax"):
        config = parse_config(CONFIG.format(kind=kind), "test")
        net = build_network(config, 3)
        state = Checkpoint(net.get_weights(), {}, 1, 0, 1.0, config.text(), ["a", "b", "c"],
                           voxelization={"render_size": 5, "fill": False, "up_axis": "z"})
        save_checkpoint(folder / "best.h5", state)
        return net.eval(), config

    @needs_onnx
    @pytest.mark.parametrize("kind", ["softmax", "triplet"])
    def test_a_checkpoint_becomes_a_file(self, kind, rng, tmp_path, capsys):
        net, config = self.checkpoint(tmp_path, kind)
        assert main(["export", str(tmp_path / "best.h5"), str(tmp_path / "net.onnx")]) == 0
        words = "3 numbers" if kind == "triplet" else "logits of 3 classes"
        assert f"from grids of 6x6x6 to {words}, checked by onnx" in capsys.readouterr().out
        grid = (rng.random((2, 1, 6, 6, 6)) < 0.2).astype("f4")
        found = run(tmp_path / "net.onnx", grid)
        assert reference.relative_error(found, dense_output(net, sn.SparseTensor.from_dense(grid))) < TOLERANCE
        told = properties(tmp_path / "net.onnx")
        assert told.pop("classes", None) == (["a", "b", "c"] if classifies(config) else None)
        assert told == {"field": [6, 6, 6], "background": [0.0], "render_size": 5, "fill": False, "up_axis": "z"}

    @needs_onnx
    @pytest.mark.parametrize(("options", "layer"), [([], 5), (["--layer", "3"], 3)])
    def test_its_descriptor(self, options, layer, rng, tmp_path, capsys):
        net, _ = self.checkpoint(tmp_path)
        out = tmp_path / "net.onnx"
        assert main(["export", str(tmp_path / "best.h5"), str(out), "--descriptor", *options]) == 0
        x = sn.SparseTensor.from_dense((rng.random((2, 1, 6, 6, 6)) < 0.2).astype("f4"))
        expected = sn.retrieval.embed(net, x, layer)
        assert reference.relative_error(run(out, x.to_dense().numpy()), expected) < TOLERANCE
        assert "classes" not in properties(out)

    def test_a_layer_belongs_to_a_descriptor(self, tmp_path, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["export", "best.h5", "net.onnx", "--layer", "3"])
        assert ended.value.code == 2 and "argument --layer: expected with --descriptor" in capsys.readouterr().err

    @needs_onnx
    def test_a_submanifold_network_is_refused_in_one_line(self, tmp_path, capsys):
        config = parse_config("[data]\npath = 'shapes.h5'\n[network]\nkind = 'resnet'\nchannels = [2, 3]\n", "test")
        net = build_network(config, 3)
        save_checkpoint(tmp_path / "best.h5", Checkpoint(net.get_weights(), {}, 1, 0, 1.0, config.text(), list("abc")))
        assert main(["export", str(tmp_path / "best.h5"), str(tmp_path / "net.onnx")]) == 1
        error = capsys.readouterr().err
        assert "submanifold1 (SubmanifoldConv) has no dense equivalent" in error and error.count("\n") == 1
        assert not (tmp_path / "net.onnx").exists()
