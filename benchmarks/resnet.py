"""Training steps of a ResNet on ModelNet40's voxels: forward, backward and SGD, with rulebooks that a loader has built.

The network is that of `network.kind = "resnet"`: levels of 32, 64, 96 and 128 channels on grids with sides of 32, 16, 8
and 4 cells, one residual block of two submanifold convolutions 3^3 at each, batch norm and ReLU, 40 classes.
"""

from __future__ import annotations

import copy

from benchmarks import reference
from benchmarks.figures import Results
from benchmarks.shapes import Shapes
from benchmarks.steps import CLASSES, Steps
from benchmarks.timing import Settings
from benchmarks.training import batch_size, time_steps
from sparsenet import get_backend, set_backend
from sparsenet.backend import REFERENCE
from sparsenet.data import SparseBatch
from sparsenet.nn import SparseNetwork, resnet

SECTION = "ResNet steps"
CHANNELS, CHANNELS_OF_QUICK = (32, 64, 96, 128), (4, 6)
STORED, RENDER_SIZE, RENDER_SIZE_OF_QUICK = "ModelNet40, 30^3 voxels", 24, 6  # cells: the stored shapes have 24, too
TOLERANCE = 1e-3  # of float32 through 9 norms


def measure_resnet(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Add the section: milliseconds of a step and of its rulebooks, samples per second; on ModelNet40's voxels, or on
    other shapes at the same render size, which the case names.

    Raises RuntimeError if the network differs from the formulas of its kernels in float64.
    """
    stored = None if settings.quick else shapes.modelnet40(results.notes.append)
    size = batch_size(settings)
    render_size = RENDER_SIZE_OF_QUICK if settings.quick else RENDER_SIZE
    source = f"{shapes.source}, render {render_size}" if stored is None else STORED
    net = resnet(CLASSES, channels=CHANNELS_OF_QUICK if settings.quick else CHANNELS)

    def batch(size: int) -> SparseBatch:
        """Shuffled: shapes of all classes."""
        dataset = shapes.meshes if stored is None else stored
        with dataset.batches(size, shuffle=True, field=net.field, render_size=render_size) as batches:
            return next(batches)

    _verify(net, batch(2))
    steps = Steps(batch(size), settings.device, net=net)
    time_steps(results, SECTION, {f"{source}, batch {size}": steps}, size, settings, {})
    if stored is not None:
        stored.close()


def _verify(net: SparseNetwork, batch: SparseBatch) -> None:
    """Check the network against the formulas of its kernels, in float64."""
    before, exact = get_backend(), copy.deepcopy(net).to(dtype="float64")
    found = net(batch.input).numpy()
    try:
        set_backend(REFERENCE)
        expected = exact(batch.input.astype("float64")).numpy()
    finally:
        set_backend(before)
    reference.check("the ResNet", found, expected, TOLERANCE)
