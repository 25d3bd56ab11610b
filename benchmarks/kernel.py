"""One kernel on each backend: its results compared with its formula, its time with that of a copy or of sgemm.

The bytes are those that must move: each array that is given is read once, each result, and each given array that the
kernel changes, is written once; of a rulebook the smaller of neighbours and pairs is read.  A copy of as many bytes is
timed in the same rounds, so that sizes which fit a cache are compared with a copy within the cache.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from benchmarks import machine, reference
from benchmarks.inputs import Inputs, family_of, inputs_of
from benchmarks.timing import Case, Settings, Timing, case, covers, interleave
from sparsenet import backend
from sparsenet.backend import REFERENCE, to_device
from sparsenet.kernels import find, launch
from sparsenet.kernels.table import Kernel, Rulebook, names
from sparsenet.sparse import ActiveSites
from sparsenet.sparse import Rulebook as Views
from sparsenet.wording import aligned

SIZES = 1_000, 10_000, 100_000
BACKENDS = REFERENCE, "cpu", "cuda"
NOTE = """
All results equal the formula's.  MB: what must be read and written, once.  of copy: the time of a copy of as many bytes
over the kernel's."""
NOTE_OF_PRODUCTS = "  of sgemm: the share of the multiply-adds a second of a large float32 product."
_FEW, _LONG = 3, 1.0  # repeats of a formula; seconds from which it is run once
_SGEMM, _QUICK_SGEMM, _GPU_SGEMM = (20_000, 864, 64), (64, 64, 64), (4096, 4096, 4096)


@dataclass(frozen=True)
class Measured:
    """One kernel, size and backend.

    size : as asked for;  seconds : the median;  spread : interquartile range over median
    bytes_moved : see the module;  copy_seconds : of a copy of as many
    multiply_adds : 0 for a kernel that multiplies no matrices;  sgemm_rate : multiply-adds a second of a large product
    """

    kernel: str
    size: int
    backend: str
    seconds: float
    spread: float
    bytes_moved: int
    copy_seconds: float
    multiply_adds: int
    sgemm_rate: float


def available() -> list[str]:
    """The backends of this machine."""
    try:
        backend.cupy()
    except RuntimeError:
        return [REFERENCE, "cpu"]
    return list(BACKENDS)


def implemented(name: str, backends: Sequence[str]) -> list[str]:
    """Those of the backends for which the kernel is implemented: a few have no CUDA half, which nothing launches."""
    kernel, found = find(name), []
    for where in backends:
        try:
            kernel.on(where)
            found.append(where)
        except NotImplementedError:
            continue
    return found


def check_name(name: str) -> None:
    """Raise KeyError, which names the nearest kernels, if there is none of that name."""
    if name in names():
        return
    family = [kernel for kernel in names() if family_of(kernel) == name]
    near = family or [kernel for kernel in names() if name and name in kernel]
    near = near or difflib.get_close_matches(name, names(), n=4, cutoff=0.5)
    what = f"a family, whose kernels are {', '.join(family)}" if family else f"not a kernel: {_hint(near)}"
    raise KeyError(f"{name} is {what}")


def _hint(near: Sequence[str]) -> str:
    return f"did you mean {' or '.join(near)}?" if near else "sparsenet benchmark kernel --help lists them"


@dataclass(frozen=True)
class Checked:
    """A kernel whose results equal its formula's.

    given : by backend, the arguments where it computes;  bytes_moved : see the module
    """

    inputs: Inputs
    given: dict[str, list[Any]]
    bytes_moved: int


def checked(name: str, size: int, backends: Sequence[str]) -> Checked:
    """Run the kernel once on each backend.

    Raises
    ------
    RuntimeError : a result, or an array given, differs from the reference's.
    NotImplementedError : the kernel has no inputs.
    """
    kernel, inputs = find(name), inputs_of(name, size)
    arguments = inputs.arguments
    specified = [_copied(value, np.float64) for value in arguments]
    expected = list(_arrays(inputs.comparable(_host(launch(name, *specified, backend=REFERENCE))), True))
    given = {where: _moved(kernel, arguments, _device(where)) for where in backends}
    moved = 0
    for where, values in given.items():
        what, result = f"{name} on {where}, size {size}", _host(launch(name, *values, backend=where))
        _check(what, list(_arrays(inputs.comparable(result), True)), expected)
        _check(f"{what}: an array that it was given", list(_arrays(_host(values))), list(_arrays(specified)))
        moved = _bytes_moved(kernel, arguments, values, result)
    return Checked(inputs, given, moved)


def measure(name: str, size: int, backends: Sequence[str], settings: Settings) -> list[Measured]:
    """Check the kernel on each backend, then time it.  Raises as `checked` does, before anything is timed."""
    it, found = checked(name, size, backends), []
    for where in backends:
        timings = _timed(name, where, it, settings)
        own, copy, sgemm = timings["kernel"], timings["copy"], timings.get("sgemm")
        rate = 0.0 if sgemm is None else prod(_sgemm_shape(where, settings)) / sgemm.median
        found.append(Measured(name, size, where, own.median, own.spread, it.bytes_moved, copy.median,
                              it.inputs.multiply_adds, rate))
    return found


def _timed(name: str, where: str, it: Checked, settings: Settings) -> dict[str, Timing]:
    """The kernel, a copy of as many bytes, and a large product if it multiplies matrices."""
    device, half = _device(where), max(1, it.bytes_moved // 8)  # numbers: a copy reads and writes them
    source, target = (to_device(make(half, np.float32), device) for make in (np.ones, np.zeros))
    cases = {"copy": case(lambda: machine.copy(source, target) if device == "cpu" else _assign(target, source), None,
                          device)}
    if it.inputs.multiply_adds:
        cases["sgemm"] = _sgemm_case(where, settings)
    own = case(lambda: launch(name, *it.given[where], backend=where), None, device)
    with covers(settings.quick):
        if where == REFERENCE:  # a formula is slow: few repeats, and none in the rounds of the others
            few = [own() for _ in range(_FEW)] if (first := own()) < _LONG else [first]
            return {**interleave(cases, settings), "kernel": Timing(tuple(few))}
        return interleave({"kernel": own, **cases}, settings)


def _assign(target: Any, source: Any) -> None:
    target[...] = source


def _sgemm_shape(where: str, settings: Settings) -> tuple[int, int, int]:
    return _QUICK_SGEMM if settings.quick else _GPU_SGEMM if where == "cuda" else _SGEMM


def _sgemm_case(where: str, settings: Settings) -> Case:
    """A product of float32; on a CPU in blocks on all threads, as this package multiplies."""
    m, k, n = _sgemm_shape(where, settings)
    rng = np.random.default_rng(0)
    a, b, out = (to_device(rng.standard_normal(shape, np.float32), _device(where))
                 for shape in ((m, k), (k, n), (m, n)))
    if where == "cuda":
        return case(lambda: backend.cupy().matmul(a, b, out=out), None, "cuda")
    return case(lambda: machine.product(a, b, out))


def _device(where: str) -> str:
    return "cuda" if where == "cuda" else "cpu"


def _copied(value: Any, dtype: Any = None) -> Any:
    """Arrays and lists of arrays copied, floats of float32 as `dtype`; anything else as it is."""
    if isinstance(value, list):
        return [_copied(one, dtype) for one in value]
    if isinstance(value, np.ndarray):
        return value.astype(dtype) if dtype and value.dtype == np.float32 else value.copy()
    return value


def _moved(kernel: Kernel, arguments: Sequence[Any], device: str) -> list[Any]:
    """Copies of the arguments on a device, except those that the contract keeps on the host."""
    descriptions = list(kernel.arguments.values())[:len(arguments)]
    return [_copied(value) if isinstance(described, str) and "on the host" in described else _on(value, device)
            for value, described in zip(arguments, descriptions, strict=True)]


def _on(value: Any, device: str) -> Any:
    if isinstance(value, list):
        return [_on(one, device) for one in value]
    if isinstance(value, np.ndarray):
        return to_device(value.copy(), device)
    if isinstance(value, ActiveSites):
        return value.to(device)
    if isinstance(value, Views):
        return value.input_sites.to(device).rulebook(value.geometry)
    return value


def _host(value: Any) -> Any:
    """A result, or arguments, with arrays on the host."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_host, value))
    return to_device(value, "cpu") if hasattr(value, "dtype") and hasattr(value, "shape") else value


def _arrays(value: Any, with_numbers: bool = False) -> Iterator[np.ndarray]:
    """The arrays in a result or among arguments, in order.  with_numbers : whole numbers too, as arrays ()"""
    if isinstance(value, (tuple, list)):
        for one in value:
            yield from _arrays(one, with_numbers)
    elif isinstance(value, (np.ndarray, np.generic)) or with_numbers and isinstance(value, int):
        yield np.asarray(value)


def _check(what: str, actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    if len(actual) != len(expected):
        raise RuntimeError(f"benchmark: {what}: {len(actual)} arrays, the reference has {len(expected)}: nothing was "
                           "timed")
    for found, wanted in zip(actual, expected, strict=True):
        if wanted.dtype.kind == "f":
            reference.check(what, found.astype(np.float64), wanted.astype(np.float64))
        else:
            reference.check(what, found, wanted, 0.0)


def _bytes_moved(kernel: Kernel, before: Sequence[Any], after: Sequence[Any], result: Any) -> int:
    """The bytes that must move, see the module.

    before, after : the arguments before the kernel ran and, with what it wrote to them, behind it
    """
    read = sum(array.nbytes for array in _arrays([value for value in before if not isinstance(value, tuple)]))
    for value, described in zip(before, kernel.arguments.values(), strict=False):
        if isinstance(described, Rulebook):
            _, outputs, offsets = value.shape
            read += min(4 * outputs * offsets, 8 * value.pair_count)
    pairs = zip(_arrays(list(before)), _arrays(_host(list(after))), strict=True)
    changed = sum(new.nbytes for old, new in pairs if not np.array_equal(old, new))
    return read + changed + sum(array.nbytes for array in _arrays(result))


def table(found: Sequence[Measured]) -> str:
    """The figures, a line for each size and backend."""
    products = any(one.multiply_adds for one in found)
    heading = ["size", "backend", "median, ms", "spread, %", "MB", "GB/s", "of copy, %"]
    rows = [tuple(heading + (["M multiply-adds", "G/s", "of sgemm, %"] if products else []))]
    for one in found:
        row = [f"{one.size:,}", one.backend, f"{1e3 * one.seconds:.3f}", f"{100 * one.spread:.0f}",
               f"{one.bytes_moved / 1e6:.2f}", f"{one.bytes_moved / one.seconds / 1e9:.2f}",
               f"{100 * one.copy_seconds / one.seconds:.0f}"]
        if products:
            rate = one.multiply_adds / one.seconds
            row += [f"{one.multiply_adds / 1e6:.1f}", f"{rate / 1e9:.2f}", f"{100 * rate / one.sgemm_rate:.0f}"]
        rows.append(tuple(row))
    return aligned(rows, left=(1,))


def measure_all(name: str, sizes: Sequence[int], backends: Sequence[str], settings: Settings,
                say: Callable[[str], None] = lambda line: None) -> list[Measured]:
    """The kernel at each size, see `measure`.  say : called with a line before each size"""
    found = []
    for size in sizes:
        say(f"{name}, size {size:,}: checking and timing on {', '.join(backends)}")
        found += measure(name, size, backends, settings)
    return found
