"""Single passes of a convolution on a GPU: kernels alone, in every precision, at the sizes of S3DCNN's layers and
at a million sites, compared with the matrix rate measured in the run and with lower bounds (`floors`).

Only useful multiply-adds count: C_in * C_out for each pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import floors, gpu, operands, reference
from benchmarks.figures import Results
from benchmarks.shapes import Shapes
from benchmarks.steps import Steps
from benchmarks.timing import Case, Settings, Timing, case, interleave
from sparsenet.backend import cupy, to_device
from sparsenet.kernels import get_float32_matmul_precision, launch, set_float32_matmul_precision
from sparsenet.nn import SparseConv
from sparsenet.sparse import ActiveSites, Geometry, Rulebook

LARGE, LAYERS = "large convolution", "S3DCNN convolutions"
# Precision -> (precision of products, dtype of stored features).
PRECISIONS = {"float32": ("highest", "float32"), "tf32": ("tf32", "float32"), "fp16": ("fp16", "float32"),
              "bf16": ("bf16", "float32"), "float16 stored": ("highest", "float16")}
TOLERANCES = {"float32": 1e-4, "tf32": 3e-3, "fp16": 3e-3, "bf16": 2e-2, "float16 stored": 5e-3}
_PRODUCTS = {"float32": "highest", "float16 stored": "fp16"}  # matrix rate for comparison, if it is another precision's
LAYER_PRECISIONS = ("float32", "tf32")
PASSES = ("forward", "input gradient", "weight gradient")
WIDTHS = (64, 128)
TF32_GOAL = ("128 -> 128", "tf32", 50.0)  # % of the TF32 matrix rate
_ROWS_CHECKED = 512


def measure_large(results: Results, settings: Settings) -> None:
    """Add the section: submanifold 3^3 at a million sites of a surface, each pass in each precision."""
    sites, geometry = surface(settings)
    results.add(LARGE, "sites", "count", len(sites))
    results.add(LARGE, "sites", "pairs", sites.rulebook(geometry).pair_count)
    rulebook = case(lambda fresh: (fresh.rulebook(geometry).neighbours,), sites.copy, "cuda")
    for width in reversed(widths(settings)):
        task = Task(sites.rulebook(geometry), width, width)
        for precision in PRECISIONS:
            task.report(LARGE, f"{width} -> {width}", task.measure(precision, settings), results)
            floors.report(LARGE, f"{width} -> {width}, {precision}", task, precision, results)
    timing = interleave({"rulebook": rulebook}, settings)["rulebook"]
    results.add(LARGE, "sites", "rulebook", 1e3 * timing.median, "ms", spread=timing.spread, better="lower")


def widths(settings: Settings) -> tuple[int, ...]:
    """Channels of the measured convolutions, from few to many."""
    return (8,) if settings.quick else WIDTHS


def surface(settings: Settings) -> tuple[ActiveSites, Geometry]:
    """A million sites of a sphere's surface on the GPU, and a submanifold 3^3."""
    keys, side = surface_keys(3 if settings.quick else 200)
    return ActiveSites.from_keys(to_device(keys, "cuda"), (side,) * 3, 1), Geometry.make_submanifold(3, 3)


def measure_layers(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Add the section: the convolutions of S3DCNN for a batch of 64 at render size 40."""
    steps = Steps(shapes.batch(1 if settings.quick else 64, 4 if settings.quick else 40), "cuda", settings.quick)
    results.settings["shapes"] = shapes.source
    sites, number = steps.prepared().sites, 0
    for layer in steps.net.layers:
        if not hasattr(layer, "geometry"):
            continue
        rulebook = sites.rulebook(layer.geometry)
        if isinstance(layer, SparseConv):
            number += 1
            task = Task(rulebook, *layer.weight.shape[1:])
            for precision in LAYER_PRECISIONS:
                task.report(LAYERS, f"layer {number}: {task.c_in} -> {task.c_out}",
                            task.measure(precision, settings), results)
        sites = rulebook.output_sites


@dataclass
class Task:
    """The arrays of a convolution, made on the GPU; peers make the same ones (see `operands`)."""

    rulebook: Rulebook
    c_in: int
    c_out: int

    def __post_init__(self) -> None:
        self.inputs, self.outputs = len(self.rulebook.input_sites), len(self.rulebook.output_sites)
        self.offsets = self.rulebook.neighbours.shape[1]
        self.pairs = self.rulebook.pair_count
        self.weight = operands.whole("weight", self.offsets * self.c_in, self.c_out, depth=self.c_in).reshape(
            self.offsets, self.c_in, self.c_out)
        self._expected: dict[str, np.ndarray] = {}  # by pass, the same for all precisions

    def measure(self, precision: str, settings: Settings) -> dict[tuple[str, str], Timing]:
        """Check each pass, then time it: {(precision, pass): Timing}."""
        with using(PRECISIONS[precision][0]):
            passes = self.passes(PRECISIONS[precision][1])
            for name, run in passes.items():
                self.check(name, run(), precision)
            cases: dict[str, Case] = {name: case(run, None, "cuda") for name, run in passes.items()}
            times = interleave(cases, settings)
        return {(precision, name): timing for name, timing in times.items()}

    def passes(self, dtype: str) -> dict[str, Callable[[], Any]]:
        """Each pass as a function without arguments."""
        xp = cupy()
        features = operands.whole("features", self.inputs, self.c_in, xp).astype(dtype, copy=False)
        gradient = operands.whole("gradient", self.outputs, self.c_out, xp).astype(dtype, copy=False)
        weight = to_device(self.weight.astype(dtype, copy=False), "cuda")
        rulebook = self.rulebook
        turned = weight.transpose(0, 2, 1)
        turned = (turned[::-1] if rulebook.submanifold else turned).copy()
        return {"forward": lambda: launch("convolution_forward", features, weight, rulebook, None),
                "input gradient": lambda: launch("convolution_input_gradient", gradient, weight, rulebook, turned),
                "weight gradient": lambda: launch("convolution_weight_gradient", features, gradient, rulebook)}

    def check(self, name: str, result: Any, precision: str) -> None:
        """Compare some rows, or some channels of the weight gradient, with sums in float64."""
        what = f"convolution {self.c_in} -> {self.c_out}, {precision}, {name}"
        part = result[:, :8, :8] if name == "weight gradient" else result[to_device(self.rows_checked(name), "cuda")]
        reference.check(what, to_device(part, "cpu").astype(np.float64), self.expected(name), TOLERANCES[precision])

    def expected(self, name: str) -> np.ndarray:
        """The reference values for `check`."""
        if name not in self._expected:
            self._expected[name] = (self.weight_gradient_corner() if name == "weight gradient" else
                                    self.expected_rows(name, self.rows_checked(name)))
        return self._expected[name]

    def rows_checked(self, name: str) -> np.ndarray:
        count = self.outputs if name == "forward" else self.inputs
        return np.sort(np.random.default_rng(7).choice(count, min(count, _ROWS_CHECKED), replace=False))

    def expected_rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """(rows, channels) float64."""
        there = to_device(self.rulebook.neighbours if name == "forward" else self.rulebook.transposed_neighbours, "cpu")
        table, weight = there[rows], self.weight.astype(np.float64)
        source, width = ("features", self.c_in) if name == "forward" else ("gradient", self.c_out)
        weight = weight if name == "forward" else weight.transpose(0, 2, 1)
        out = np.zeros((len(rows), weight.shape[2]))
        for k in range(self.offsets):
            present = table[:, k] >= 0
            values = operands.operand(source, table[present, k], np.arange(width), width)
            out[present] += values.astype(np.float64) @ weight[k]
        return out

    def weight_gradient_corner(self) -> np.ndarray:
        """(K, 8, 8) float64."""
        neighbours = to_device(self.rulebook.neighbours, "cpu")
        features = operands.operand("features", np.arange(self.inputs), np.arange(min(8, self.c_in)), self.c_in)
        gradient = operands.operand("gradient", np.arange(self.outputs), np.arange(min(8, self.c_out)), self.c_out)
        corner = []
        for k in range(self.offsets):
            rows = np.flatnonzero(neighbours[:, k] >= 0)
            corner.append(features[neighbours[rows, k]].T.astype(np.float64) @ gradient[rows].astype(np.float64))
        return np.stack(corner)

    def report(self, section: str, row: str, times: dict[tuple[str, str], Timing], results: Results) -> None:
        """Add milliseconds, TFLOP/s and the share of the matrix rate of each pass."""
        work = 2 * self.pairs * self.c_in * self.c_out
        for (precision, name), timing in times.items():
            place = section, f"{row}, {precision}"
            results.add(*place, name, 1e3 * timing.median, "ms", spread=timing.spread, better="lower")
            rate = work / timing.median
            results.add(*place, f"{name}, rate", rate / 1e12, "TFLOP/s", spread=timing.spread, better="higher")
            ceiling = gpu.matrix_rate(results, _PRODUCTS.get(precision, precision))
            if ceiling is not None:
                goal = TF32_GOAL[2] if (row, precision, name) == (*TF32_GOAL[:2], "forward") else None
                results.add(*place, f"{name}, of matrix rate", 100 * rate / ceiling, "%", spread=timing.spread,
                            better="higher", goal=goal)


def surface_keys(radius: int) -> tuple[np.ndarray, int]:
    """Keys of the cells within one cell of a sphere (a shell two cells thick, 1.0 M at radius 200), and the
    side of the grid."""
    side = 2 * radius + 8
    squares = (np.arange(side) - (side - 1) / 2) ** 2
    plane = squares[:, None] + squares[None, :]
    keys = [np.flatnonzero(np.abs(np.sqrt(square + plane) - radius) <= 1) + np.int64(x) * side * side
            for x, square in enumerate(squares)]
    return np.concatenate(keys).astype(np.int64), side


@contextmanager
def using(precision: str) -> Iterator[None]:
    """A context in which a GPU multiplies float32 in this precision."""
    before = get_float32_matmul_precision()
    set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        set_float32_matmul_precision(before)
