"""PyTorch: the module of a network computes the same, and weights of PyTorch's and spconv's layers do so here.

Both run where torch (and spconv) are installed; no extra of the package brings them.
"""

from __future__ import annotations

import copy
import pickle
import sys

import numpy as np
import pytest
import reference
from export_cases import BACKGROUND, NETWORKS, SIDE, batch, dense_output, network, on_zeros, trained, transposed

import sparsenet as sn
from sparsenet import nn


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="needs torch, which no extra of the package brings: pip install torch")


@pytest.fixture(scope="module")
def spconv(torch):
    pytest.importorskip("spconv", reason="needs spconv, which no extra of the package brings: pip install spconv")
    import spconv.pytorch as module

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on several, its sums on a CPU race
    yield module
    torch.set_num_threads(threads)


class TestModule:
    @pytest.mark.parametrize("dimension", [1, 2, 3])
    @pytest.mark.parametrize("name", NETWORKS)
    def test_it_computes_the_same(self, name, dimension, torch, rng):
        net, x = trained(NETWORKS[name](dimension), rng, "float64"), batch(dimension, rng, "float64")
        state = torch.get_rng_state()
        module = sn.export.to_torch(net, background=BACKGROUND)
        assert torch.equal(torch.get_rng_state(), state) and not module.training
        grid = torch.from_numpy(x.to_dense().numpy())
        expected = dense_output(net, x)
        reference.assert_close(module(grid).detach().numpy(), expected)
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(twin(grid), module(grid))

    @pytest.mark.parametrize("groups", [1, 2])
    @pytest.mark.parametrize("dimension", [1, 2, 3])
    def test_a_transposed_convolution(self, dimension, groups, torch, rng):
        net = trained(transposed(dimension, groups), rng, "float64")
        module, x = sn.export.to_torch(net), on_zeros(batch(dimension, rng, "float64"))
        x.features.requires_grad = True
        grid = torch.from_numpy(x.to_dense().numpy().copy()).requires_grad_()
        found, theirs = net(x).to_dense(), module(grid)
        reference.assert_close(found, theirs.detach().numpy())
        slopes = rng.standard_normal(found.shape)
        found.backward(slopes)
        theirs.backward(torch.from_numpy(slopes))
        reference.assert_close(x.features.grad, reference.from_grid(grid.grad.numpy(), x.coordinates))
        for name, parameter in net.named_parameters():
            expected = module.get_parameter(name).grad.numpy()
            if name == "transposed_convolution1.weight":
                expected = sn.export.weight_from_transposed(expected, groups)
            elif name.endswith("weight"):
                expected = sn.export.weight_from_torch(expected)
            reference.assert_close(parameter.grad, expected, name)
        wanted = net.state_dict()
        assert all(np.array_equal(wanted[key], array) for key, array in sn.export.from_torch(module).items())

    @pytest.mark.parametrize("name", NETWORKS)
    def test_names_and_weights_come_back(self, name, torch, rng):
        net = trained(NETWORKS[name](3), rng)
        state, wanted = sn.export.from_torch(sn.export.to_torch(net, background=BACKGROUND)), net.state_dict()
        assert state.keys() == wanted.keys()
        assert all(np.array_equal(state[key], array) for key, array in wanted.items())
        net.load_state_dict(state)

    def test_gradients_are_the_sparse_network_s(self, torch, rng):
        net = network(2).add_convolution(4, 3).add_leaky_relu(0.1).add_max_pool(2).add_linear(3)
        net = trained(net, rng, "float64")
        module, x = sn.export.to_torch(net), batch(2, rng, "float64")
        slopes = rng.standard_normal((3, 3))
        net(x).backward(slopes)
        module(torch.from_numpy(x.to_dense().numpy())).backward(torch.from_numpy(slopes))
        for name, parameter in net.named_parameters():
            theirs = module.get_parameter(name).grad.numpy()
            convert = sn.export.weight_from_torch if theirs.ndim > 2 else np.transpose
            reference.assert_close(convert(theirs), parameter.grad, name)

    def test_it_has_copies_of_the_weights(self, torch):
        net = network(2).add_convolution(4, 3)
        module = sn.export.to_torch(net)
        with torch.no_grad():
            module.convolution1.weight.zero_()
        assert net.layers[0].weight.numpy().any()

    def test_a_grid_of_another_shape(self, torch):
        module = sn.export.to_torch(network(2).add_relu())
        with pytest.raises(ValueError, match=rf"the grid has shape \(1, 2, 4, 4\), expected \(B, 2, {SIDE}, {SIDE}\)"):
            module(torch.zeros(1, 2, 4, 4))

    @pytest.mark.parametrize(("layer", "kind"), [("convolution", "Conv"), ("max_pool", "MaxPool"),
                                                  ("average_pool", "AvgPool")])
    def test_four_dimensions(self, layer, kind, torch):
        net = network(4)
        net = net.add_convolution(2, 2) if kind == "Conv" else getattr(net, f"add_{layer}")(2)
        with pytest.raises(ValueError, match=f"{layer}1: PyTorch has no {kind} of 4 dimensions, expected 1 to 3"):
            sn.export.to_torch(net)

    def test_operations_are_those_of_onnx(self, torch):
        from sparsenet.export import onnx_nodes, torch_module
        from sparsenet.export.dense import dense_graph

        assert set(torch_module.OPERATIONS) == set(onnx_nodes.OPERATIONS)
        graph = dense_graph(network(1).add_relu())
        graph.append("fold", "fold1", (graph.output,), graph.output.sample)
        with pytest.raises(ValueError, match="fold1: fold is not an operation of PyTorch that is known here"):
            torch_module.DenseNetwork(graph)


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "sparsenet.export.torch_module", raising=False)
    with pytest.raises(RuntimeError, match="to_torch: it needs torch, which is not installed: pip install torch"):
        sn.export.to_torch(network(1).add_relu())
    with pytest.raises(TypeError, match="from_torch: module is Linear, expected a torch.nn.Module"):
        sn.export.from_torch(nn.Linear(2, 3))


class TestWeightsOfTorch:
    @pytest.mark.parametrize("dimension", [1, 2, 3])
    def test_a_network_of_layers_computes_the_same(self, dimension, torch, rng):
        kinds = {kind: getattr(torch.nn, f"{kind}{dimension}d") for kind in ("Conv", "BatchNorm", "MaxPool")}
        torch.manual_seed(3)
        theirs = torch.nn.Sequential(
            kinds["Conv"](2, 4, 3, stride=2), kinds["BatchNorm"](4), torch.nn.ReLU(), kinds["MaxPool"](2, 1),
            torch.nn.Flatten(), torch.nn.Linear(4 * 3**dimension, 5)).double()
        for _ in range(3):  # running statistics
            theirs(torch.randn(8, 2, *[SIDE] * dimension, dtype=torch.float64))
        ours = nn.Sequential(nn.SparseConv(2, 4, 3, 2, dimension=dimension), nn.BatchNorm(4), nn.ReLU(),
                             nn.SparseMaxPool(2, 1, dimension=dimension), nn.ToDense(), nn.Linear(4 * 3**dimension, 5))
        ours.to("float64").load_state_dict(sn.export.from_torch(theirs.eval()))
        x = batch(dimension, rng, "float64")
        rows = nn.Sequential(*ours.layers[:5]).eval()(x)
        found = ours[5](rows.reshape(3, -1))
        expected = theirs(torch.from_numpy(x.to_dense().numpy())).detach().numpy()
        reference.assert_close(found, expected)

    def test_a_transposed_convolution_at_the_sites(self, torch, rng):
        down = nn.SparseConv(2, 4, 3, 2, 1, dimension=2, rng=0).to("float64")
        up = nn.InverseConv(4, 2, down, rng=1).to("float64")
        theirs = torch.nn.ConvTranspose2d(4, 2, 3, 2, 1).double()
        up.load_state_dict(sn.export.from_torch(theirs))
        x = batch(2, rng, "float64")
        y = down(x)
        found = up(y)
        grid = theirs(torch.from_numpy(y.to_dense().numpy())).detach().numpy()
        reference.assert_close(found.features, reference.from_grid(grid, x.coordinates))

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_halves(self, dtype, torch):
        theirs = torch.nn.Linear(3, 2).to(getattr(torch, dtype))
        state = sn.export.from_torch(theirs)
        assert np.array_equal(state["weight"].astype("f4"), theirs.weight.detach().float().numpy().T)
        nn.Linear(3, 2).load_state_dict(state)

    def test_a_shared_layer_has_both_of_its_names(self, torch):
        layer = torch.nn.Linear(2, 2)
        assert set(sn.export.from_torch(torch.nn.Sequential(layer, layer))) == {"0.weight", "0.bias", "1.weight",
                                                                                 "1.bias"}

    def test_what_is_not_known_is_named(self, torch):
        with pytest.raises(ValueError, match=r"from_torch: 1 \(Embedding\): the layout of its weight \(4, 2\) is not"):
            sn.export.from_torch(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Embedding(4, 2)))
        with pytest.raises(ValueError, match=r"from_torch: the module \(Bilinear\)"):
            sn.export.from_torch(torch.nn.Bilinear(2, 2, 2))
        with pytest.raises(TypeError, match="module is str, expected a torch.nn.Module"):
            sn.export.from_torch("model.pt")


class TestWeightsOfSpconv:
    @staticmethod
    def given(rng):
        cells = reference.random_coordinates(rng, 60, (SIDE,) * 3, 2)
        return rng.standard_normal((60, 2)).astype("f4"), cells

    @staticmethod
    def compare(torch, spconv, theirs, ours, features, cells):
        """Equal sites, and equal features on them."""
        given = spconv.SparseConvTensor(torch.from_numpy(features), torch.from_numpy(cells), [SIDE] * 3, 2)
        with torch.no_grad():
            expected = theirs(given)
        found = ours(sn.SparseTensor(features, cells, (SIDE,) * 3, 2, background=None))
        at = found.sites.lookup(expected.indices.numpy())
        assert (np.sort(at) == np.arange(len(found))).all()
        reference.assert_close(found.features.numpy()[at], expected.features.numpy())

    @pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (2, 2), (3, 1), ((3, 1, 2), (1, 2, 1))])
    @pytest.mark.parametrize("kind", ["sparse", "submanifold"])
    def test_a_convolution_computes_the_same(self, kind, size, stride, torch, spconv, rng):
        if kind == "submanifold":
            size = (3, 1, 5) if isinstance(size, tuple) else size // 2 * 2 + 1
            theirs, ours = spconv.SubMConv3d(2, 5, size, indice_key="a"), nn.SubmanifoldConv(2, 5, size)
        else:
            theirs, ours = spconv.SparseConv3d(2, 5, size, stride), nn.SparseConv(2, 5, size, stride)
        with torch.no_grad():
            theirs.bias.uniform_(-1, 1)
        ours.load_state_dict(sn.export.from_torch(theirs))
        self.compare(torch, spconv, theirs, ours, *self.given(rng))

    def test_a_network_that_goes_down_and_back(self, torch, spconv, rng):
        theirs = spconv.SparseSequential(
            spconv.SubMConv3d(2, 4, 3, bias=False), torch.nn.BatchNorm1d(4), torch.nn.ReLU(),
            spconv.SparseConv3d(4, 6, 3, 2, 1, indice_key="down"), torch.nn.LeakyReLU(0.1),
            spconv.SparseInverseConv3d(6, 3, 3, indice_key="down"), spconv.SubMConv3d(3, 4, 1))
        theirs[1].eval()  # on a CPU its convolutions with a bias do not run in evaluation mode
        with torch.no_grad():
            theirs[1].running_mean.uniform_(-1, 1)
            theirs[1].running_var.uniform_(0.5, 2)
        down = nn.SparseConv(4, 6, 3, 2, 1)
        ours = nn.Sequential(nn.SubmanifoldConv(2, 4, 3, bias=False), nn.BatchNorm(4), nn.ReLU(), down,
                             nn.LeakyReLU(0.1), nn.InverseConv(6, 3, down), nn.SubmanifoldConv(3, 4, 1))
        ours.eval().load_state_dict(sn.export.from_torch(theirs))
        self.compare(torch, spconv, theirs, ours, *self.given(rng))

    def test_another_layout_is_refused(self, torch, spconv):
        theirs = spconv.SparseConv3d(2, 5, 3)
        theirs.weight = torch.nn.Parameter(torch.zeros(3, 3, 3, 2, 5))
        with pytest.raises(ValueError, match=r"the weight has shape \(3, 3, 3, 2, 5\), expected \(5, \*size, 2\)"):
            sn.export.from_torch(theirs)
