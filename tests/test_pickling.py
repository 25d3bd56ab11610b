"""Every public object pickles and deep-copies, before and after it was used, and its copy does the same."""

from __future__ import annotations

import copy
import dataclasses
import gc
import importlib
import multiprocessing
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparsenet as sn
from sparsenet import data, inspect, nn, optim, retrieval, segmentation, shapes, sparse, training

PACKAGES = ("sparsenet", *(f"sparsenet.{name}" for name in ("data", "export", "inspect", "nn", "ops", "optim",
                                                            "retrieval", "segmentation", "shapes", "sparse",
                                                            "training")))
FIELD = (6, 6, 6)
MESH = shapes.Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 2], [0, 1, 3]])
TWINS = {"pickle": lambda value: pickle.loads(pickle.dumps(value)), "deepcopy": copy.deepcopy}


def sparse_tensor(background: Any = "zeros") -> sn.SparseTensor:
    rng = np.random.default_rng(0)
    cells = np.argwhere(rng.random((2, *FIELD)) < 0.1)[::-1]  # not in order: there is a permutation
    return sn.SparseTensor(rng.standard_normal((len(cells), 1)).astype("f4"), cells, FIELD, 2, background)


def network() -> sn.SparseNetwork:
    net = sn.SparseNetwork().add_convolution(3, 3, padding=1).add_leaky_relu(0.3).add_dropout(0.5)
    return net.add_submanifold(2, 3).add_max_pool(2).add_linear(2)


def top_shapes() -> inspect.TopShapes:
    return inspect.top_shapes(network(), [("one", sn.SparseTensor(np.ones((1, 1), "f4"), [[0, 2, 2, 2]], FIELD, 1))])


def rows() -> sn.Tensor:
    return sn.Tensor(np.arange(6, dtype=np.float32).reshape(2, 3))


def recorded() -> sn.Tensor:
    return sn.Tensor([1.0, 2.0], requires_grad=True) * 3


def saved_dataset(folder: Path) -> data.SparseDataset:
    samples = [data.Sample(np.argwhere(np.random.default_rng(i).random(FIELD) < 0.1), i % 2, f"shape{i}")
               for i in range(4)]
    return data.SparseDataset.create(folder / "shapes.h5", samples, FIELD, 6, ["a", "b"])


def batch(folder: Path) -> sn.SparseBatch:
    with saved_dataset(folder) as dataset, dataset.batches(2) as batches:
        return next(batches)


def descriptors() -> retrieval.Descriptors:
    return retrieval.Descriptors(np.eye(4, 3), [0, 0, 1, 1], ["a", "b", "c", "d"], ["x", "y"])


def evaluation() -> retrieval.Evaluation:
    return retrieval.evaluate(np.random.default_rng(0).standard_normal((6, 3)), [0, 0, 0, 1, 1, 1])


def optimizer() -> optim.SGD:
    return optim.SGD([("w", nn.Parameter([1.0, 2.0]))], lr=0.1, momentum=0.9)


def groups() -> optim.ParameterGroups:
    return optim.ParameterGroups(optim.SGD, [{"params": [("w", nn.Parameter([1.0, 2.0]))], "lr": 0.2},
                                             {"params": [("b", nn.Parameter([0.0]))]}], lr=0.1, momentum=0.9)


def take_step(optimizer: optim.SGD | optim.Adam) -> Any:
    optimizer.parameters["w"].grad = np.ones(2, np.float32)
    optimizer.step()
    return optimizer.parameters["w"], optimizer.state_dict()


def epoch_of(sampler: data.BatchSampler) -> Any:
    return [sampler.batch(i, 0, 3) for i in range(len(sampler))]


def index() -> retrieval.Index:
    found = retrieval.Index()
    found.add(np.eye(4, 3))
    return found


class Double(sn.Function):
    def forward(self, x):
        self.save(x)
        return 2 * x

    def backward(self, gradient):
        return 2 * gradient


def applied() -> Double:
    function = Double()
    function.apply(sn.Tensor([1.0], requires_grad=True))
    return function


class Scale(nn.Module):
    def __init__(self):
        self.factor = nn.Parameter(2.0)
        self.register_buffer("calls", np.array(0))

    def forward(self, x):
        self.calls.array = self.calls.array + 1
        return x * self.factor


def forward_and_backward(layer: Callable, x: Any) -> Any:
    """Output, and the gradients that a module's parameters hold."""
    output = layer(x)
    tensor = output if isinstance(output, sn.Tensor) else output.features
    if tensor.requires_grad:
        tensor.sum().backward()
    return output, [parameter.grad for parameter in layer.parameters()]


def through_layers(x: sn.SparseTensor) -> Any:
    conv = nn.SparseConv(1, 2, 3, padding=1, rng=0)
    return conv(x), nn.SubmanifoldConv(1, 1, 3, rng=0)(x), nn.SparseMaxPool(2)(x), x.sites.lookup(x.coordinates)


def views(rulebook: sparse.Rulebook) -> Any:
    return (rulebook.neighbours, rulebook.pairs, rulebook.pair_splits, rulebook.transposed_neighbours,
            rulebook.output_sites.coordinates, rulebook.pair_count)


def orphan() -> sparse.Rulebook:
    """A rulebook to whose sites there is no other reference."""
    found = sparse_tensor().sites.rulebook(sparse.Geometry.make(3, 2, 2))
    gc.collect()
    return found


def layer(build: Callable[[], nn.Module], given: Callable[[], Any] = sparse_tensor) -> tuple[Any, Any]:
    return lambda folder: build(), lambda module: forward_and_backward(module, given())


def plain(build: Callable[[], Any], use: Callable[[Any], Any]) -> tuple[Any, Any]:
    return lambda folder: build(), use


def schedule(rate: Any) -> tuple[Any, Any]:
    return plain(lambda: rate, lambda rate: [rate(epoch) for epoch in (0, 1, 2.5)])


def error(kind: type[Exception]) -> tuple[Any, Any]:
    return plain(lambda: kind("file: what is wrong"), str)


def fields(value: Any) -> Any:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


# name -> (made from a folder, what is done with it, whose result a copy must give, too)
CASES: dict[str, tuple[Callable[[Path], Any], Callable[[Any], Any]]] = {
    "Tensor": plain(rows, lambda x: (x, (x * 2).sum())),
    "Tensor, a leaf": plain(lambda: sn.Tensor([1.0, 2.0], requires_grad=True),
                            lambda x: ((x * x).sum().backward(), x.grad)),
    "Tensor, recorded": plain(recorded, lambda x: x),
    "Parameter": plain(lambda: nn.Parameter([1.0, 2.0]), lambda x: ((x * x).sum().backward(), x.grad)),
    "Function": plain(Double, lambda function: function.name),
    "Function, applied": plain(applied, lambda function: function.name),
    "no_grad": plain(sn.no_grad, lambda block: block(lambda: recorded().requires_grad)()),
    "detect_anomaly": plain(sn.detect_anomaly, lambda block: block(recorded)()),
    "SparseTensor": plain(sparse_tensor, through_layers),
    "SparseTensor, recorded": plain(lambda: nn.SparseConv(1, 1, 3, padding=1, rng=0)(sparse_tensor()), through_layers),
    "SparseTensor without a site": plain(
        lambda: sn.SparseTensor(np.zeros((0, 1), "f4"), np.zeros((0, 4), int), FIELD, 2, np.ones(1, "f4")),
        through_layers),
    "ActiveSites": plain(lambda: sparse_tensor().sites,
                         lambda sites: (sites.lookup(sites.coordinates), sites.permutation, sites.batch_splits,
                                        views(sites.rulebook(sparse.Geometry.make(3, 2, 2))))),
    "Geometry": plain(lambda: sparse.Geometry.make(3, 3, 2, 1), lambda one: (one.output_size(FIELD), hash(one), one)),
    "Branches": plain(lambda: sparse.Branches(((sparse.Geometry.make(3, 2),), ())), lambda one: (one, hash(one))),
    "Spacing": plain(lambda: sparse.Spacing((2, 1, 3), (1, 0, 0)),
                     lambda one: (one.output_size(FIELD), hash(one), one)),
    "PoolingStep": plain(lambda: sparse.PoolingStep(sparse.Geometry.make(3, 2)), lambda one: (one, hash(one))),
    "Upsampling": plain(lambda: sparse.Upsampling.make(2, (7, 7, 7)), lambda one: (one, hash(one),
                                                                                   one.output_size(FIELD))),
    "DepthImaging": plain(lambda: sparse.DepthImaging.make(5, 20), lambda one: (one, hash(one),
                                                                                one.output_size(FIELD))),
    "ConvolutionStep": plain(lambda: sparse.ConvolutionStep(sparse.Geometry.make(3, 2), (1, 4)),
                             lambda one: (one, hash(one))),
    "Rulebook": plain(orphan, views),
    "Rulebook, submanifold": plain(
        lambda: sparse_tensor().sites.rulebook(sparse.Geometry.make_submanifold(3, 3)), views),
    "ReversedRulebook": plain(lambda: sparse.ReversedRulebook(orphan()), lambda back: (
        back.neighbours, back.pairs, back.pair_splits, back.transposed_neighbours, back.output_sites.coordinates)),
    "ShardedBatch": (lambda folder: data.ShardedBatch({1: batch(folder)}, np.zeros(4, np.int64)),
                     lambda whole: (len(whole), whole.labels, whole.dropped, through_layers(whole.shards[1].input))),
    "Part": plain(lambda: data.Part(3, 8), lambda part: (str(part), part.of_items(20))),
    "SparseBatch": (batch, lambda batch: (through_layers(batch.input), batch.labels, batch.sample_ids, batch.dropped)),
    "Module": layer(lambda: nn.Sequential(Scale(), nn.LeakyReLU()), rows),
    "SparseNetwork": layer(network),
    "Sequential": layer(lambda: nn.Sequential(nn.SparseConv(1, 2, 2, rng=0), nn.ToDense())),
    "SparseConv": layer(lambda: nn.SparseConv(1, 2, 3, padding=1, rng=0)),
    "SubmanifoldConv": layer(lambda: nn.SubmanifoldConv(1, 2, 3, rng=0)),
    "TransposedConv": layer(lambda: nn.TransposedConv(1, 2, 3, 2, rng=0)),
    "InverseConv": layer(lambda: nn.Sequential(pool := nn.SparseMaxPool(2), nn.InverseConv(1, 2, pool, rng=0))),
    "SparseMaxPool": layer(lambda: nn.SparseMaxPool(2)),
    "SparseAvgPool": layer(lambda: nn.SparseAvgPool(3, 2, 1)),
    "SparseSumPool": layer(lambda: nn.SparseSumPool(2)),
    "Upsample": layer(lambda: nn.Upsample(2, 11)),
    "DepthImages": layer(lambda: nn.DepthImages(3)),
    "ImagePool": layer(lambda: nn.ImagePool(2), rows),
    "LeakyReLU": layer(nn.LeakyReLU),
    "ReLU": layer(nn.ReLU),
    "ELU": layer(lambda: nn.ELU(0.5)),
    "GELU": layer(nn.GELU),
    "SiLU": layer(nn.SiLU),
    "Tanh": layer(nn.Tanh),
    "Sigmoid": layer(nn.Sigmoid),
    "PReLU": layer(lambda: nn.PReLU(1, 0.1)),
    "Softmax": layer(lambda: nn.Softmax(1)),
    "BatchNorm": layer(lambda: nn.BatchNorm(1)),
    "InstanceNorm": layer(lambda: nn.InstanceNorm(1)),
    "GroupNorm": layer(lambda: nn.GroupNorm(1, 1)),
    "LayerNorm": layer(lambda: nn.LayerNorm(1)),
    "Residual": layer(lambda: nn.Residual(nn.SubmanifoldConv(1, 2, 3, rng=0), nn.ReLU(),
                                          shortcut=nn.SubmanifoldConv(1, 2, 1, rng=1))),
    "Checkpoint, of layers": layer(lambda: nn.Checkpoint(nn.SparseConv(1, 2, 2, rng=0), nn.ReLU())),
    "Skip": layer(lambda: nn.Skip(pool := nn.SparseMaxPool(2), nn.InverseConv(1, 2, pool, rng=0))),
    "Dropout": layer(lambda: nn.Dropout(0.5, rng=0)),
    "GlobalPool": layer(nn.GlobalPool),
    "ToDense": layer(nn.ToDense),
    "Linear": layer(lambda: nn.Linear(3, 2, rng=0), rows),
    "CosineLinear": layer(lambda: nn.CosineLinear(3, 2, rng=0), rows),
    "Activation": plain(lambda: network().activations(sparse_tensor())[0],
                        lambda record: (record.features, record.pairs, record.multiply_adds, repr(record))),
    "Trace": plain(lambda: inspect.trace(network(), sparse_tensor()),
                   lambda seen: (seen.output, seen.kept, [(r.name, r.features, r.pairs) for r in seen.records])),
    "Kept": plain(lambda: inspect.trace(network(), sparse_tensor()).kept, lambda kept: (kept, kept.total)),
    "GradCam": plain(lambda: inspect.grad_cam(network(), sparse_tensor()),
                     lambda cam: (cam.layer, cam.alpha, cam.importance, cam.sites.coordinates, cam.on_input)),
    "TopShapes": plain(top_shapes, lambda tops: (tops.names, tops.coordinates, repr(tops))),
    "ChannelTops": plain(lambda: top_shapes().layers["convolution1"], fields),
    "TopShape": plain(lambda: top_shapes().of("convolution1", 0)[0], fields),
    "Picture": plain(lambda: inspect.Picture(np.eye(3, dtype=int), "one", "a", 0.5), fields),
    "SGD": plain(optimizer, take_step),
    "Adam": plain(lambda: optim.Adam([("w", nn.Parameter([1.0, 2.0]))], amsgrad=True), take_step),
    "AdamW": plain(lambda: optim.AdamW([("w", nn.Parameter([1.0, 2.0]))]), take_step),
    "ParameterGroups": plain(groups, lambda chosen: take_step(chosen.optimizers[0])),
    "EMA": plain(lambda: optim.EMA(network()), lambda average: (average.update(), average.updates,
                                                                average.state_dict())),
    "ConstantRate": schedule(optim.ConstantRate(0.1)),
    "ExponentialDecay": schedule(optim.ExponentialDecay(0.1, 0.5)),
    "StepDecay": schedule(optim.StepDecay(0.1, 1)),
    "CosineDecay": schedule(optim.CosineDecay(0.1, 4)),
    "Mesh": plain(lambda: MESH, lambda mesh: (mesh.vertices, mesh.faces)),
    "Mesh, labelled": plain(lambda: shapes.Mesh(MESH.vertices, MESH.faces, [1, 0]),
                            lambda mesh: (mesh.face_labels, *(one := shapes.voxelize(mesh, 6, 6)), one.labels)),
    "MeshError": error(shapes.MeshError),
    "MeshBatch": plain(lambda: shapes.MeshBatch([MESH, MESH]), lambda meshes: (meshes.vertices, meshes.face_splits)),
    "Voxelization": plain(lambda: shapes.Voxelization(24, True, "y", 3), vars),
    "Voxels": plain(lambda: shapes.voxelize(MESH, 3, 6), lambda v: (*v, v.coordinates, v.features, v.dropped)),
    "Off3DPicture": plain(lambda: sn.Off3DPicture(MESH, 5, label=2),
                          lambda picture: (*picture.voxelize(6), picture.label, picture.render_size)),
    "Augmentation": plain(lambda: shapes.Augmentation("so3", 0.2, 0.2),
                          lambda augment: augment.draw(np.random.default_rng(0), 40)),
    "SparseDataset": (saved_dataset, lambda dataset: (dataset.labels, dataset[1].coordinates, dataset.names)),
    "Sample": plain(lambda: data.Sample(np.eye(3, dtype=int), 1, "a", mesh=MESH, site_labels=np.arange(3)),
                    lambda sample: (sample.coordinates, sample.name, sample.mesh.vertices, sample.site_labels)),
    "BatchSampler": plain(lambda: data.BatchSampler(5, 2, True), epoch_of),
    "TripletSampler": plain(lambda: data.TripletSampler(np.array([0, 0, 1, 1]), 3, 2),
                            epoch_of),
    "ClassBalancedSampler": plain(lambda: data.ClassBalancedSampler(np.array([0, 0, 1, 1]), 4, 2, 2),
                                  epoch_of),
    "Conversion": plain(data.Conversion, fields),
    "ImportReport": plain(lambda: data.ImportReport(Path("a.h5"), 2, [("b.off", "empty")]), fields),
    "VoxelAugmentation": plain(data.VoxelAugmentation, fields),
    "Descriptors": plain(descriptors, fields),
    "Index": plain(index, lambda index: index.search(np.eye(2, 3), 3)),
    "Scores": plain(lambda: evaluation().macro, fields),
    "AtRank": plain(lambda: evaluation().at(2), fields),
    "PrecisionRecall": plain(lambda: evaluation().at(2).macro, fields),
    "ClassHits": plain(lambda: evaluation().class_hits[1], fields),
    "Evaluation": plain(evaluation, lambda found: (str(found), found.precision, found.per_query, found.mAP)),
    "Found": plain(lambda: retrieval.Found("q", np.eye(3, dtype=int), 0, np.zeros(2), np.arange(2), descriptors()),
                   lambda found: (found.names, found.labels, str(found))),
    "SegmentationEvaluation": plain(lambda: segmentation.evaluate([0, 1, 1], [0, 0, 1], ["a", "b"]),
                                    lambda found: (str(found), found.figures(), found.shape_IoU)),
    "Tally": plain(lambda: segmentation.Tally(["a", "b"]), lambda tally: (tally.add([0, 1], [0, -1]), tally.confusion,
                                                                         tally.evaluation())),
    "Checkpoint": plain(lambda: training.Checkpoint({"w": np.ones(2)}, {}, 1, 2, 3.0, "", ["a"]),
                        lambda state: (fields(state), state.digest)),
    "CheckpointError": error(training.CheckpointError),
    "Config": plain(lambda: training.parse_config("[data]\npath = 'x.h5'\n", "x.toml"), lambda config: config.text()),
    "ConfigError": error(training.ConfigError),
    "Event": plain(lambda: training.Event("step", 1, 2, 3, {"loss": 1.0}, network()),
                   lambda event: (event.total_steps, event.figures,
                                  forward_and_backward(event.net, sparse_tensor()))),
    "LearningRates": plain(lambda: training.LearningRates(*np.arange(1.0, 13).reshape(3, 4), 2.0, True),
                           lambda found: (fields(found), found.suggestion, found.table())),
    "TrainingResult": plain(lambda: training.TrainingResult(network(), [{"loss": 1.0}], {"test_mAP": 0.5}, evaluation(),
                                                            True),
                            lambda result: (forward_and_backward(result.net, sparse_tensor()), result.history)),
}


def same(a: Any, b: Any) -> bool:
    """Whether two results are of one type and hold the same bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, sn.SparseTensor):
        parts = [(x.features, x.coordinates, x.permutation, x.background, x.spatial_size, x.batch_size) for x in (a, b)]
        return same(*parts)
    if isinstance(a, sn.Tensor):
        return same(a.array, b.array)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Mapping):
        return list(a) == list(b) and same(list(a.values()), list(b.values()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if dataclasses.is_dataclass(a):
        return same(fields(a), fields(b))
    return a == b


@pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)
@pytest.mark.parametrize("name", CASES)
def test_a_copy_does_the_same_before_and_after_use(name, twin, tmp_path):
    make, use = CASES[name]
    original = make(tmp_path)
    for _ in ("fresh", "used", "used again"):
        other = twin(original)
        assert type(other) is type(original)
        assert same(use(other), use(original))
        if isinstance(other, data.SparseDataset):
            other.close()
    if isinstance(original, data.SparseDataset):
        original.close()


def test_every_public_class_has_a_case():
    public = set()
    for package in map(importlib.import_module, PACKAGES):
        public |= {name for name in package.__all__ if isinstance(getattr(package, name), type)}
    missing = public - {name.split(",")[0].split(" ")[0] for name in CASES}
    assert not missing, f"{', '.join(sorted(missing))}: give each a case, so that it is known to pickle"


@pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)
class TestTheGraphIsLeftBehind:
    def test_a_copy_of_a_computed_tensor_is_cut_from_it(self, twin):
        x = sn.Tensor([1.0, 2.0], requires_grad=True)
        y = x * x
        other = twin(y)
        assert other.is_leaf and not other.requires_grad and y.requires_grad and not y.is_leaf
        with pytest.raises(RuntimeError, match="requires no gradient"):
            other.backward(np.ones(2, np.float32))
        y.sum().backward()
        assert x.grad.tolist() == [2, 4]

    def test_a_copy_shares_neither_array_nor_version_nor_gradient(self, twin):
        x = sn.Tensor([1.0, 2.0], requires_grad=True)
        x.grad = np.ones(2, np.float32)
        other = twin(x)
        x.array[0], x.grad[0] = 5, 5
        x.mark_modified()
        assert other.array.tolist() == [1, 2] and other.grad.tolist() == [1, 1] and other.version == 0

    def test_sites_leave_their_rulebooks_and_table(self, twin):
        x = sparse_tensor()
        through_layers(x)
        size = len(pickle.dumps(sparse_tensor().sites))
        assert twin(x.sites)._rulebooks == {} and "hash_table" not in vars(twin(x.sites))
        assert len(pickle.dumps(x.sites)) <= size

    def test_a_rulebook_and_its_sites_stay_together(self, twin):
        x = sparse_tensor()
        sites, rulebook = twin((x.sites, x.sites.rulebook(sparse.Geometry.make(3, 2, 2))))
        assert rulebook.input_sites is sites

    def test_parameters_that_are_shared_stay_shared(self, twin):
        net = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1))
        net[1].weight = net[0].weight
        other = twin(net)
        assert other[1].weight is other[0].weight and other[0].weight is not net[0].weight

    def test_an_optimizer_and_its_network_stay_together(self, twin):
        net = nn.Linear(2, 1, rng=0)
        other, optimizer = twin((net, optim.SGD(net.named_parameters(), lr=1.0)))
        assert optimizer.parameters["weight"] is other.weight


def test_voxels_come_back_from_a_process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(shapes.voxelize, (MESH, 6, 5)).get(timeout=120)
    assert same(found, shapes.voxelize(MESH, 6, 5))
