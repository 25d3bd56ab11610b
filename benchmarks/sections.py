"""The sections of a benchmark, in order, and the function that runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict

from benchmarks import (
    beside_peers,
    convolution,
    gpu_profile,
    grouped,
    hash_table,
    invariance,
    machine,
    memory_bound,
    passes,
    points,
    ranks,
    resnet,
    startup,
    training,
    unet,
    voxelizer,
    wgmma,
    whole_training,
)
from benchmarks.figures import Figure, Results
from benchmarks.shapes import Shapes
from benchmarks.timing import Settings, covers
from sparsenet import backend

# name -> (description, function, whether it takes shapes, its devices)
SECTIONS: dict[str, tuple[str, Callable, bool, tuple[str, ...]]] = {
    "ceilings": ("copy bandwidth and matrix rates", machine.measure_ceilings, False, backend.DEVICES),
    "convolution": ("each pass at the five workloads, with peers", convolution.measure_convolution, False,
                    backend.DEVICES),
    "grouped": ("grouped and depthwise convolution, beside the same without groups", grouped.measure_grouped, False,
                ("cpu",)),
    "hash": ("hash table insertion and look-up", hash_table.measure_hash_table, False, backend.DEVICES),
    "large": ("each pass of a convolution at a million sites, by precision", passes.measure_large, False, ("cuda",)),
    "peers": ("the same in other packages", beside_peers.measure_beside_peers, False, ("cuda",)),
    "layers": ("each pass of S3DCNN's convolutions alone", passes.measure_layers, True, ("cuda",)),
    "memory-bound": ("pooling, ReLU, norm, sums, points, loss, SGD beside a copy",
                     memory_bound.measure_memory_bound, True, backend.DEVICES),
    "points": ("points into cells and back", points.measure_points, False, backend.DEVICES),
    "steps": ("S3DCNN training steps by render size, split and cost", training.measure_steps, True, backend.DEVICES),
    "resnet": ("ResNet training steps", resnet.measure_resnet, True, backend.DEVICES),
    "unet": ("a U-Net forward and backward, beside spconv's", unet.measure_unet, False, ("cpu",)),
    "invariance": ("forward passes whose samples do not depend on their batch", invariance.measure_invariance, True,
                   ("cpu",)),
    "memory": ("peak memory of a training step", training.measure_memory, True, ("cpu",)),
    "scaling": ("threads 1 to all, batch 1 to 256", training.measure_scaling, True, backend.DEVICES),
    "ranks": ("training steps in shards, and on two ranks beside two threads", ranks.measure_ranks, True, ("cpu",)),
    "pipeline": ("epochs with the loader", training.measure_pipeline, True, backend.DEVICES),
    "voxelizer": ("meshes a second", voxelizer.measure_voxelizer, True, backend.DEVICES),
    "profile": ("where a step's time goes, on the GPU and on the host", gpu_profile.measure_profile, True, ("cuda",)),
    "wgmma": ("the rate of Hopper's wgmma out of shared memory", wgmma.measure_wgmma, False, ("cuda",)),
    "modelnet40": ("a whole training, and what the paper's epochs would take", whole_training.measure_modelnet40,
                   False, ("cuda",)),
    "start-up": ("import, first batch, cold and warm cache", startup.measure_startup, True, ("cpu",)),
}
_SHAPES = 512


def run(settings: Settings, only: Sequence[str] = (), say: Callable[[str], None] = print,
        keep: Callable[[Results], None] = lambda results: None,
        heard: Callable[[Figure], None] = lambda figure: None) -> Results:
    """Verify and time the sections of a device.

    If a section ends with a RuntimeError or a MemoryError (a pass does not match its reference, memory is
    insufficient), it is listed in `failed` of the results, and the next one starts.

    only : names of SECTIONS, in the order to run; empty: all
    say : called with progress messages
    keep : called with the results so far after each section
    heard : called with each figure as it is measured

    Raises
    ------
    ValueError : a section is unknown, or not available on the device.
    RuntimeError : the device does not exist.
    """
    names = list(only) or [name for name, (*_, devices) in SECTIONS.items() if settings.device in devices]
    for name in names:
        if name not in SECTIONS:
            raise ValueError(f"benchmark: section {name!r} does not exist, expected some of {', '.join(SECTIONS)}")
        if settings.device not in SECTIONS[name][3]:
            raise ValueError(f"benchmark: section {name!r} is not measured on {settings.device}: leave it out")
    if settings.device == "cuda":
        backend.cupy()  # raises here, before anything has run
    results = Results(settings.device, machine.describe(settings.device),
                      {key: value for key, value in asdict(settings).items() if key not in ("peers", "carried")},
                      heard=heard)
    with ExitStack() as stack:
        stack.enter_context(covers(settings.quick))
        shapes = None
        for name in names:
            title, measure, needs_shapes, _ = SECTIONS[name]
            if needs_shapes and shapes is None:
                say("shapes: reading")
                shapes = stack.enter_context(Shapes(16 if settings.quick else _SHAPES, results.notes.append,
                                                    settings.carried))
            say(f"{name}: {title}")
            begun = time.perf_counter()
            try:
                measure(results, settings, *([shapes] if needs_shapes else []))
            except (RuntimeError, MemoryError) as error:
                results.failed[name] = " ".join(f"{type(error).__name__}: {error}".split())
                say(f"{name}: FAILED: {results.failed[name]}")
            finally:  # after Ctrl-C, keep the results of the section so far
                results.settings.setdefault("section_seconds", {})[name] = round(time.perf_counter() - begun, 1)
                keep(results)
    return results
