"""Profile of a step: time by kernel, and within kernels in matrix products.

While a `Profile` is open it replaces `Kernel.__call__` and `numpy.matmul`, records their times, and has
the products of compiled code recorded.  This costs a microsecond per call, so profiled steps are not the
timed ones.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparsenet.kernels import get_num_threads
from sparsenet.kernels.cpu.product_record import recorded_products
from sparsenet.kernels.cpu.threads import run_blocks, single_threaded_blas
from sparsenet.kernels.table import Kernel

Shape = tuple[int, int, int, bool]  # rows, depth, columns, whether the left operand is transposed

_REPLAY_SECONDS = 0.02  # per shape


@dataclass
class Profile:
    """A recorded profile.

    kernels : seconds of each kernel by (phase, name), on the calling thread
    products : (calls, thread-seconds) of each shape of matrix product, over all threads
    phase : set by the caller, such as "forward"
    """

    kernels: Counter = field(default_factory=Counter)
    products: dict[Shape, list[float]] = field(default_factory=dict)
    phase: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def multiply_adds(self) -> int:
        return sum(int(calls) * m * k * n for (m, k, n, _), (calls, _) in self.products.items())

    @property
    def product_seconds(self) -> float:
        return sum(seconds for _, seconds in self.products.values())

    @contextmanager
    def open(self) -> Iterator[Profile]:
        plain_call, plain_matmul = Kernel.__call__, np.matmul

        def call(kernel: Kernel, *values: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return plain_call(kernel, *values, **options)
            finally:
                self.kernels[self.phase, kernel.name] += time.perf_counter() - begun

        def matmul(a: np.ndarray, b: np.ndarray, *rest: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            product = plain_matmul(a, b, *rest, **options)
            seconds = time.perf_counter() - begun
            shape = (a.shape[0], a.shape[-1], b.shape[-1], not a.flags.c_contiguous)
            with self._lock:
                self._add(shape, seconds)
            return product

        with recorded_products() as inner:
            Kernel.__call__, np.matmul = call, matmul
            try:
                yield self
            finally:
                Kernel.__call__, np.matmul = plain_call, plain_matmul
        for one in inner:
            self._add((one.m, one.k, one.n, one.transposed), one.seconds)

    def _add(self, shape: Shape, seconds: float) -> None:
        entry = self.products.setdefault(shape, [0, 0.0])
        entry[0] += 1
        entry[1] += seconds

    def replay(self) -> float:
        """Thread-seconds of the same matrix products alone, with all threads busy and operands in cache.
        Shapes whose rows differ by less than a quarter share a rate."""
        rates: dict[Shape, float] = {}
        total = 0.0
        for (m, k, n, transposed), (calls, _) in sorted(self.products.items()):
            shape = (_rounded(m), _rounded(k) if transposed else k, n, transposed)
            if shape not in rates:
                rates[shape] = _rate(shape)
            total += calls * m * k * n / rates[shape]
        return total


def _rounded(size: int) -> int:
    """The nearest of 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, ..."""
    step = max(1, 1 << max(0, size.bit_length() - 3))
    return max(1, round(size / step) * step)


def _rate(shape: Shape) -> float:
    """Multiply-adds per second of one thread while all threads do the same."""
    m, k, n, transposed = shape
    threads = get_num_threads()
    seconds = [0.0] * threads
    repeats = [0] * threads
    operands = [(np.ones((k, m), np.float32).T if transposed else np.ones((m, k), np.float32),
                 np.ones((k, n), np.float32), np.empty((m, n), np.float32)) for _ in range(threads)]

    def part(index: int) -> None:
        a, b, out = operands[index]
        np.matmul(a, b, out=out)
        begun = time.perf_counter()
        while seconds[index] < _REPLAY_SECONDS:
            np.matmul(a, b, out=out)
            repeats[index] += 1
            seconds[index] = time.perf_counter() - begun

    with single_threaded_blas():
        run_blocks(part, threads)
    return m * k * n * sum(repeats) / sum(seconds)
