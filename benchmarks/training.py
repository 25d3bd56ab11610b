"""S3DCNN training: steps by render size, their profile, their cost compared with the dense grid, memory,
scaling with threads and batch size, and the whole pipeline with its loader."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import peers, reference
from benchmarks.figures import Results
from benchmarks.machine import sgemm_rate
from benchmarks.profile import Profile
from benchmarks.shapes import FIELD, Shapes
from benchmarks.steps import Steps, convolution_work, epoch_rate, step_work, traced_memory
from benchmarks.timing import Settings, Timing, interleave
from benchmarks.unet import measure_unet_memory
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.nn import SparseConv, s3dcnn
from sparsenet.nn.architectures import SLOPE
from sparsenet.random import keyed_rng
from sparsenet.shapes.augment import Augmentation
from sparsenet.sparse import SparseTensor

STEPS, SPLIT, COST, MEMORY, SCALING, PIPELINE = (
    f"S3DCNN {part}" for part in ("steps", "split", "cost", "memory", "scaling", "pipeline"))
RENDER_SIZES = (30, 40, 70, 100)
BATCH, BATCH_OF_QUICK = 64, 4
RATE_GOAL = 80.0  # % of the sgemm rate, at render size 40
GPU_GOAL = 20_000.0  # samples per second at render size 40
GROUPS = {  # (phase, kernel) -> category of its time
    ("forward", "convolution_forward"): "convolution, forward",
    ("backward", "convolution_input_gradient"): "convolution, input gradient",
    ("backward", "convolution_weight_gradient"): "convolution, weight gradient",
    ("forward", "max_pool_forward"): "max-pooling",
    ("backward", "max_pool_backward"): "max-pooling",
    ("forward", "leaky_relu_forward"): "leaky ReLU",
    ("backward", "leaky_relu_backward"): "leaky ReLU",
    ("backward", "transpose_neighbours"): "rulebooks",
    ("backward", "transposed_of_pairs"): "rulebooks",
    ("backward", "pairs"): "rulebooks",
    ("forward", "softmax_cross_entropy"): "loss",
    ("backward", "scale_gradient"): "loss",
    ("forward", "matmul"): "linear, constants",
    ("backward", "matmul"): "linear, constants",
    ("forward", "subtract_sample_rows"): "linear, constants",
    ("forward", "add_sample_rows"): "linear, constants",
    ("forward", "segment_sum"): "sums of rows",
    ("backward", "segment_sum"): "sums of rows",
    ("update", "sgd_step"): "update",
    ("update", "adam_step"): "update",
}


def measure_steps(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Measure steps on prepared batches at each render size: split, cost, and the dense peer's cost."""
    sizes = _sizes(settings)
    batch = batch_size(settings)
    steps = {size: Steps(shapes.batch(batch, size), settings.device, settings.quick) for size in sizes}
    _verify(shapes, sizes[0])
    results.settings["shapes"] = shapes.source
    named = {f"render {size}": one for size, one in steps.items()}
    times = time_steps(results, STEPS, named, batch, settings, {"render 40": GPU_GOAL})
    if settings.device == "cpu":
        for case, one in named.items():
            _add_split(results, case, one, settings)
    _add_cost(results, steps, times, batch)
    _add_peers(results, settings, shapes, steps, batch)


def time_steps(results: Results, section: str, steps: dict[str, Steps], batch: int, settings: Settings,
               gpu_goals: dict[str, float]) -> dict[str, Timing]:
    """Time steps on prepared batches and the rulebooks of a batch, and add the figures of each case, by name.

    gpu_goals : samples per second of consecutive steps on a GPU, by name

    Returns the timing of the steps.
    """
    cases = {case: one.case for case, one in steps.items()}
    cases |= {f"{case}: rulebooks": one.rulebooks for case, one in steps.items()}
    if settings.device == "cuda":
        cases |= {f"{case}: in a row": one.in_a_row for case, one in steps.items()}
    times = interleave(cases, settings)
    for case, one in steps.items():
        timing, rulebooks = times[case], times[f"{case}: rulebooks"]
        results.add(section, case, "sites", len(one.sites))
        results.add(section, case, "step", 1e3 * timing.median, "ms", spread=timing.spread, better="lower")
        for phase, seconds in one.medians(len(timing.samples)).items():
            results.add(section, case, phase, 1e3 * seconds, "ms", better="lower")
        results.add(section, case, "rulebooks", 1e3 * rulebooks.median, "ms", spread=rulebooks.spread, better="lower")
        if settings.device == "cuda":
            _add_gpu_step(results, section, case, one, times[f"{case}: in a row"], batch, gpu_goals.get(case))
        else:
            results.add(section, case, "prepared", batch / timing.median, "samples/s", spread=timing.spread,
                        better="higher")
        results.add(section, case, "with rulebooks", batch / (timing.median + rulebooks.median), "samples/s",
                    better="higher")
    return {case: times[case] for case in steps}


def _add_gpu_step(results: Results, section: str, case: str, steps: Steps, row: Timing, batch: int,
                  goal: float | None) -> None:
    """Add the time of consecutive steps, and the launches and waits of one step."""
    results.add(section, case, "step in a row", 1e3 * row.median, "ms", spread=row.spread, better="lower")
    results.add(section, case, "prepared", batch / row.median, "samples/s", spread=row.spread, better="higher",
                goal=goal)
    for name, counts in zip(("rulebooks", "step"), steps.counted(), strict=True):
        results.add(section, case, f"{name}: our launches", counts.launched, better="lower")
        results.add(section, case, f"{name}: waits", counts.waits, better="lower")


def _sizes(settings: Settings) -> tuple[int, ...]:
    """Render sizes; a tiny one for quick runs."""
    if settings.quick:
        return (20, 30) if settings.device == "cpu" else (3, 4)
    return RENDER_SIZES if settings.device == "cpu" else (30, 40)


def _verify(shapes: Shapes, size: int) -> None:
    """Check the descriptor of one shape against the dense network, a loop over offsets."""
    net = s3dcnn()
    x = shapes.batch(1, size).input
    convolutions = [layer for layer in net.layers if isinstance(layer, SparseConv)]
    expected = reference.dense_descriptor(x.coordinates, FIELD, [layer.weight.array for layer in convolutions],
                                          [layer.bias.array for layer in convolutions], SLOPE)
    reference.check("S3DCNN's descriptor", net(x).numpy()[0], expected, 1e-3)


def _add_split(results: Results, case: str, steps: Steps, settings: Settings) -> None:
    rounds = min(3, settings.repeats)
    shares: dict[str, list[float]] = {}
    seconds_of_steps = []
    for _ in range(rounds):
        profile = Profile()
        x = steps.prepared()
        with profile.open():
            steps.step(x, profile)
        wall = sum(seconds[-1] for seconds in steps.phases.values())
        groups = dict.fromkeys([*GROUPS.values(), "other kernels"], 0.0)
        for key, seconds in profile.kernels.items():
            groups[GROUPS.get(key, "other kernels")] += seconds
        groups["outside kernels"] = wall - sum(groups.values())
        for name, seconds in groups.items():
            shares.setdefault(name, []).append(100 * seconds / wall)
        seconds_of_steps.append(wall)
    for name, values in shares.items():
        results.add(SPLIT, case, name, float(np.median(values)), "%")
    ceiling = sgemm_rate(results)
    if ceiling is not None:
        rate = step_work(steps) / float(np.median(seconds_of_steps))
        results.add(SPLIT, case, "of the sgemm rate", 100 * rate / ceiling, "%", better="higher",
                    goal=RATE_GOAL if case == "render 40" else None)


def _add_cost(results: Results, steps: dict[int, Steps], times: dict[str, Timing], batch: int) -> None:
    """Add work and time against active sites, relative to the second size (40)."""
    base = sorted(steps)[1]
    for size, one in steps.items():
        sparse, dense = convolution_work(one)
        case = f"render {size}"
        results.add(COST, case, "sites a sample", len(one.sites) / batch)
        results.add(COST, case, "multiply-adds a sample", sparse / batch / 1e6, "M")
        results.add(COST, case, "dense multiply-adds a sample", dense / batch / 1e6, "M")
        results.add(COST, case, "step a sample", 1e3 * times[case].median / batch, "ms", better="lower")
        slower = times[case].median / times[f"render {base}"].median
        more = len(one.sites) / len(steps[base].sites)
        results.add(COST, case, f"time / sites, against render {base}", slower / more, "x",
                    spread=times[case].spread, better="lower", goal=1.0 if size > base else None)


def _add_peers(results: Results, settings: Settings, shapes: Shapes, steps: dict[int, Steps], batch: int) -> None:
    """Compare with the whole network in torch on the dense grid (one sample, at the same cost for every render
    size) and in spconv (the batch).  Ours includes rulebooks, which spconv builds in its step, forward and backward."""
    settings = replace(settings, repeats=min(5, settings.repeats))
    with ExitStack() as stack:
        for peer in peers.available(settings.peers, results.notes.append, settings.device):
            stack.enter_context(peer)
            groups = [list(steps)] if peer.name == "torch" else [[size] for size in steps]
            for sizes in groups:
                count = 1 if peer.name == "torch" else batch
                try:
                    _set_up(peer, shapes.batch(count, sizes[0]).input)
                except peers.PeerError as error:
                    results.notes.append(f"{peer.label}, S3DCNN: left out: {error}")
                    break
                cases = {"peer": peer.case("step"), **{f"{size}": steps[size].whole for size in sizes}}
                times = interleave(cases, settings)
                theirs = times.pop("peer")
                for size, ours in times.items():
                    seconds = theirs.median / count
                    results.add(COST, f"render {size}", f"{peer.name}'s step a sample", 1e3 * seconds, "ms",
                                spread=theirs.spread, better="lower")
                    results.add(COST, f"render {size}", f"{peer.name} / ours", seconds / (ours.median / batch), "x",
                                spread=max(theirs.spread, ours.spread), better="higher")


def _set_up(peer: peers.Peer, x: SparseTensor) -> None:
    """Send S3DCNN's weights and the input to the peer.  Raises RuntimeError if torch's descriptor differs;
    spconv's does, because its pooling is another function."""
    net = s3dcnn()
    arrays: dict[str, Any] = {"grid": np.array((FIELD,) * 3), "slope": SLOPE, "coordinates": x.coordinates,
                              "batch": x.batch_size}
    for i, layer in enumerate(one for one in net.layers if isinstance(one, SparseConv)):
        arrays |= {f"weight{i}": layer.weight.numpy(), f"bias{i}": layer.bias.numpy()}
    got = peer.set_up("network", arrays)["output"]
    if peer.name == "torch":
        reference.check("S3DCNN's descriptor against torch's dense network", net(x).numpy(), got, 1e-3)


def measure_memory(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Measure the peak memory of a training step and its activations; of S3DCNN, then of a U-Net."""
    for size in (20,) if settings.quick else (40, 100):
        found = traced_memory(Steps(shapes.batch(batch_size(settings), size), "cpu"))
        case = f"render {size}"
        for name in ("outputs", "live", "peak", "rulebooks"):
            results.add(MEMORY, case, {"outputs": "layers' outputs", "live": "live after forward"}.get(name, name),
                        found[name] / 1e6, "MB", better="lower" if name == "peak" else "")
        results.add(MEMORY, case, "peak / live", found["peak"] / found["live"], "x", better="lower",
                    goal=None if settings.quick else 2.0)
        results.add(MEMORY, case, "peak / outputs", found["peak"] / found["outputs"], "x", better="lower")
    measure_unet_memory(results, settings)


def measure_scaling(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Measure 1 and all threads with the default batch; then batch sizes from 1 up."""
    size = _sizes(settings)[0] if settings.quick else 40
    threads = get_num_threads()
    if threads > 1 and settings.device == "cpu":
        usual = Steps(shapes.batch(batch_size(settings), size), settings.device, settings.quick)
        counts = sorted({1, 2, threads})
        try:
            times = interleave({f"{count}": partial(_on_threads, count, usual) for count in counts}, settings)
        finally:
            set_num_threads(threads)
        for count in counts:
            timing = times[f"{count}"]
            case = f"{count} thread{'s' * (count > 1)}"
            results.add(SCALING, case, "step", 1e3 * timing.median, "ms", spread=timing.spread, better="lower")
            results.add(SCALING, case, "speed-up", times["1"].median / timing.median, "x", spread=timing.spread,
                        better="higher")
    batches = (1, 4) if settings.quick else (1, 4, 16, 64, 256)
    steps = {count: Steps(shapes.batch(count, size), settings.device, settings.quick) for count in batches}
    times = interleave({f"{count}": one.case for count, one in steps.items()}, settings)
    for count in batches:
        timing = times[f"{count}"]
        results.add(SCALING, f"batch {count}", "step", 1e3 * timing.median, "ms", spread=timing.spread, better="lower")
        results.add(SCALING, f"batch {count}", "rate", count / timing.median, "samples/s", spread=timing.spread,
                    better="higher")


def _on_threads(count: int, steps: Steps) -> float:
    set_num_threads(count)
    return steps.case()


def measure_pipeline(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Measure whole epochs with the loader: meshes voxelized with rotation, affine map and shift; stored voxels."""
    batch, rounds = batch_size(settings), min(3, settings.repeats)
    size = _sizes(settings)[0] if settings.quick else 40
    workers = (1,) if settings.quick else (0, 1, 2) if settings.device == "cpu" else (0, 1, 2, 4)
    turned = Augmentation(rotation="so3", affine=0.2, shift=0.2)
    sources: dict[str, tuple[Any, dict[str, Any]]] = {
        f"{shapes.source}, render {size}, augmented": (shapes.meshes, {"augment": turned, "render_size": size})}
    voxels = shapes.modelnet40(results.notes.append)
    if voxels is not None:
        sources["ModelNet40, 30^3 voxels"] = (voxels, {})
    for source, (dataset, options) in sources.items():
        steps = Steps(shapes.batch(batch, size), settings.device, settings.quick)
        if settings.device == "cpu":
            order: dict[str, Any] = {"batch_size": batch, "shuffle": True}
        else:  # a GPU would finish the few shapes before the workers have started
            order = {"sampler": _Repeated(len(dataset.object_samples), batch, 3 if settings.quick else 100)}
        for count in workers:
            found = [epoch_rate(steps, dataset.batches(workers=count, field=FIELD, epoch=epoch, **order,
                                                       geometries=steps.geometries, backward=True,
                                                       device=settings.device, **options))
                     for epoch in range(rounds)]
            case = f"{source}, {count} worker{'s' * (count != 1)}"
            rates = Timing(tuple(rate for rate, _ in found))
            results.add(PIPELINE, case, "rate", rates.median, "samples/s", spread=rates.spread, better="higher",
                        goal=_pipeline_goal(settings.device, source, count))
            results.add(PIPELINE, case, "waiting", 100 * float(np.median([share for _, share in found])), "%",
                        better="lower")
    if voxels is not None:
        voxels.close()


def _pipeline_goal(device: str, source: str, workers: int) -> float | None:
    if device == "cpu":
        return 100.0 if source.startswith("ModelNet40") and workers == 1 else None
    return 10_000.0 if source.endswith("augmented") and workers == 4 else None


class _Repeated:
    """A sampler of a long epoch over few items, which repeat in a different order each time."""

    repeats = True

    def __init__(self, items: int, batch_size: int, batches: int):
        self.items, self.batch_size, self.batches = items, batch_size, batches

    def __len__(self) -> int:
        return self.batches

    def batch(self, index: int, seed: int, epoch: int) -> np.ndarray:
        return keyed_rng(seed, epoch, "repeated", index).permutation(self.items)[:self.batch_size]


def batch_size(settings: Settings) -> int:
    return BATCH_OF_QUICK if settings.quick else BATCH
