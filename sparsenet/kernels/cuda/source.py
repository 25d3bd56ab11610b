"""CUDA kernels: a source file, its variants, and a launch whose arguments are checked.

    SOURCE = CudaSource("activations/leaky_relu", variants=SCALARS.values())   # activations/leaky_relu.cu
    kernel = SOURCE.kernel("leaky_relu_forward", **scalars_of(x))              # compiled at its first launch
    kernel(blocks_for(x.size), THREADS, x, 0.33, x.size, out)

`#include "common.cuh"`, of a header beside the source or beside this file, is replaced by its text, so that the
compiler needs a single string.  A driver compiles and runs kernels: CuPy's on a GPU, or the one given to `use_driver`
(with which the tests run the same sources on the host).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.kernels.counting import launched
from sparsenet.kernels.cuda.interface import Driver, Launch
from sparsenet.kernels.cuda.signature import CTYPES, Parameter, parse, quick_check

FOLDER = Path(__file__).parents[1]  # of the families, each with its sources
HEADERS = Path(__file__).parent  # which several families include
THREADS = 256  # per block, by default
MAX_BLOCKS = 1 << 14  # of a grid-stride loop: enough for any GPU, and fixed, so that no result depends on the GPU
MAX_THREADS = 1024  # per block
MAX_SHARED = 227 * 1024  # bytes per block, on the largest GPU

TARGETS = {"hopper.cuh": "sm_90a"}  # headers whose instructions only one architecture has
OLDEST = {"TF32": 80, "FP16": 75, "BF16": 80}  # the first GPUs whose tensor cores multiply operands of a PRECISION
Macros = Mapping[str, str | int]
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"[^\n]*$', re.MULTILINE)


class CudaSource:
    """A `.cu` file: its text, and its kernels by name and variant.

    name : its path below `folder`, without the suffix, such as "activations/leaky_relu"
    variants : the macros of each variant that its launchers choose from, all of which are compiled ahead and tested; a
        function that lists them if they follow from the tile table in use; None: any, for sources outside the families
    """

    def __init__(self, name: str, folder: Path = FOLDER, *,
                 variants: Iterable[Macros] | Callable[[], Iterable[Macros]] | None = None):
        self.name = name
        self._variants = variants if variants is None or callable(variants) else list(variants)
        self.path = Path(folder) / f"{name}.cu"
        self._kernels: dict[tuple, CudaKernel] = {}

    @property
    def variants(self) -> list[Macros] | None:
        """The macros of each variant, once, as the table in use leads to them; None if any may be compiled."""
        listed = self._variants() if callable(self._variants) else self._variants
        return None if listed is None else list({frozenset(macros.items()): macros for macros in listed}.values())

    @cached_property
    def target(self) -> str | None:
        """The only architecture that has its instructions, such as "sm_90a"; None if all have them."""
        found = [target for header, target in TARGETS.items() if f'#include "{header}"' in self.path.read_text("utf-8")]
        return found[0] if found else None

    def runs_on(self, architecture: int, macros: Macros) -> bool:
        """Whether GPUs of that number (80 for sm_80) have the instructions of a variant."""
        oldest = OLDEST.get(str(macros.get("PRECISION")), 0)
        return self.target in (None, f"sm_{architecture}a") and architecture >= oldest

    @cached_property
    def text(self) -> str:
        """The source with its includes in place; #line keeps the line numbers of messages right."""
        return self._inlined(self.path, set())

    def kernel(self, name: str, **defines: str | int) -> CudaKernel:
        """The kernel compiled with these macros, e.g. SCALAR="float"; the same object each time.

        Raises KeyError for macros that are not among the variants, whether or not they would compile.
        """
        key = (name, frozenset(defines.items()))
        kernel = self._kernels.get(key)
        if kernel is not None:
            return kernel
        variants = self.variants
        if variants is not None and defines not in variants:
            raise KeyError(f"{self.path.name} has no variant {defines}: add it to the variants of its CudaSource, "
                           "which are compiled ahead and tested")
        return self._kernels.setdefault(key, CudaKernel(self, name, defines))

    def line(self, file: str, number: int) -> str:
        """One line of this source or of a header that it includes; "" if there is none."""
        path = self.path.with_name(file)
        path = path if path.exists() else HEADERS / file
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""

    def _inlined(self, path: Path, seen: set[str]) -> str:
        seen.add(path.name)
        text = f'#line 1 "{path.name}"\n' + path.read_text(encoding="utf-8")

        def include(match: re.Match) -> str:
            if match[1] in seen:  # already included
                return ""
            line = text.count("\n", 0, match.start())  # of this line, counted from 1: #line is line 0
            beside = path.with_name(match[1])
            inner = self._inlined(beside if beside.exists() else HEADERS / match[1], seen)
            return f'{inner}\n#line {line + 1} "{path.name}"'

        return _INCLUDE.sub(include, text)


class CudaKernel:
    """One kernel of a source with its macros set; each launch checks all arguments first."""

    def __init__(self, source: CudaSource, name: str, defines: dict[str, str | int]):
        self.source, self.name = source, name
        self.defines = {key: str(int(value) if isinstance(value, bool) else value) for key, value in defines.items()}
        kernels = parse(source.text, self.defines)
        if name not in kernels:
            raise KeyError(f"{source.path.name} has no kernel named {name!r}; there are {sorted(kernels)}")
        self.module = tuple(kernels)  # all the source's kernels: they compile together
        self.parameters: tuple[Parameter, ...] = kernels[name]
        self._quick = quick_check(self.parameters)
        exclusive = any(parameter.written and parameter.exclusive for parameter in self.parameters)
        self._disjoint = [i for i, parameter in enumerate(self.parameters) if parameter.pointer and exclusive]
        self._launches: dict[Driver, Launch] = {}
        self._lock = threading.Lock()

    def __call__(self, grid: int | tuple[int, ...], block: int | tuple[int, ...], *arguments: Any,
                 shared_bytes: int = 0) -> None:
        """Run on `grid` blocks of `block` threads; nothing runs if the grid is empty.

        Raises
        ------
        TypeError, ValueError, OverflowError : with the names of the kernel and the argument, and what was expected.
        CompileError : at the first launch, with the line of the source.
        """
        grid, block = _three(grid), _three(block)
        driver = _installed or cupy_driver()
        if not (len(arguments) == len(self.parameters) and self._quick(arguments, driver.ndarray)):
            self._check(arguments, driver)
        if self._disjoint:
            self._check_disjoint(arguments, driver.address)
        if 0 in grid:
            return
        threads = block[0] * block[1] * block[2]
        if not 0 < threads <= MAX_THREADS or min(grid) < 0 or max(grid[1:]) > 65535:
            raise ValueError(f"{self.name}: grid is {grid} and block {block}, expected 1 to {MAX_THREADS} "
                             "threads and at most 65535 blocks along y and z")
        if not 0 <= shared_bytes <= MAX_SHARED:
            raise ValueError(f"{self.name}: shared_bytes is {shared_bytes}, expected 0 to {MAX_SHARED}")
        (self._launches.get(driver) or self.compiled(driver))(grid, block, arguments, shared_bytes)
        launched(self.name)

    def compiled(self, driver: Driver) -> Launch:
        """The function that runs this kernel, compiled once by the driver."""
        with self._lock:
            launch = self._launches.get(driver) or driver.compile(self)
            self._launches[driver] = launch
        return launch

    def _check(self, arguments: tuple, driver: Driver) -> None:
        """Raise if an argument does not fit its parameter."""
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.name}: got {len(arguments)} arguments, expected {len(self.parameters)}: "
                            f"{', '.join(parameter.name for parameter in self.parameters)}")
        for value, parameter in zip(arguments, self.parameters, strict=True):
            if not parameter.pointer:
                parameter.check_number(value, self.name)
            elif value is not None:
                if not isinstance(value, driver.ndarray):
                    raise TypeError(f"{self.name}: {parameter.name} is {type(value).__name__}, expected "
                                    f"{driver.wanted}")
                parameter.check_array(value, self.name)
            elif not parameter.optional:
                raise TypeError(f"{self.name}: {parameter.name} is None, expected an array of {parameter.dtype}: mark "
                                "the parameter OPTIONAL in the source")

    def _check_disjoint(self, arguments: tuple, address: Callable[[Any], int]) -> None:
        """Raise if an array written through __restrict__ shares memory with another argument."""
        spans = []
        for i in self._disjoint:
            array = arguments[i]
            if array is not None and (size := array.nbytes):
                start = address(array)
                spans.append((start, start + size, i))
        spans.sort()
        highest, owner = 0, -1  # the highest end so far, and the argument that it belongs to
        for start, end, i in spans:
            if start < highest and (self._owns(i) or self._owns(owner)):
                raise ValueError(f"{self.name}: {self.parameters[owner].name} and {self.parameters[i].name} share "
                                 "memory, expected disjoint arrays (__restrict__): pass a copy of one")
            if end > highest:
                highest, owner = end, i

    def _owns(self, i: int) -> bool:
        """Whether the kernel writes to that argument and assumes that no other argument shares its memory."""
        return self.parameters[i].written and self.parameters[i].exclusive


def sources() -> list[CudaSource]:
    """The sources of all families."""
    return [CudaSource(f"{path.parent.name}/{path.stem}") for path in sorted(FOLDER.glob("*/*.cu"))]


def blocks_for(size: int, threads: int = THREADS) -> int:
    """Blocks of a grid-stride loop over `size` elements, which depend on the size alone; 0 if there are none."""
    return min(-(-int(size) // threads), MAX_BLOCKS)


def ctype(array: Any) -> str:
    """The CUDA C++ name of the array's dtype: "float" for float32, "long long" for int64, ..."""
    return CTYPES[np.dtype(array.dtype)]


# The macros of features by dtype: SCALAR, as they are stored, and WIDE, in which is computed.
SCALARS = {
    "float32": {"SCALAR": "float", "WIDE": "float"},
    "float64": {"SCALAR": "double", "WIDE": "double"},
    "float16": {"SCALAR": "Half", "WIDE": "float"},
}


_SCALARS_OF = {np.dtype(name): scalars for name, scalars in SCALARS.items()}  # to make the name of a dtype is slow


def scalars_of(array: Any) -> dict[str, str]:
    """SCALAR and WIDE for the array's features."""
    return _SCALARS_OF[array.dtype]


_installed: Driver | None = None


@contextmanager
def use_driver(driver: Driver) -> Iterator[Driver]:
    """Context in which `driver`, instead of CuPy, compiles and runs the kernels of all threads."""
    global _installed
    before, _installed = _installed, driver
    try:
        yield driver
    finally:
        _installed = before


@cache
def cupy_driver() -> Driver:
    """The driver of the GPU; raises RuntimeError without CuPy or a GPU, saying what to install."""
    from sparsenet.kernels.cuda.driver import CupyDriver

    return CupyDriver()


def _three(size: int | tuple[int, ...]) -> tuple[int, int, int]:
    if type(size) is int:  # nearly always
        return size, 1, 1
    sizes = size if isinstance(size, tuple) else (size,)
    return (*map(int, sizes), *(1,) * (3 - len(sizes)))
