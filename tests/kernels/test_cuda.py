"""The launcher: signatures are read from the source, and every argument is checked before a launch."""

from __future__ import annotations

import ctypes
import sys
import threading
import types
from dataclasses import dataclass, field

import numpy as np
import pytest

from sparsenet.kernels import launch
from sparsenet.kernels.cuda import driver as cupy_driver
from sparsenet.kernels.cuda import source as cuda
from sparsenet.kernels.cuda.interface import CompileError
from sparsenet.kernels.cuda.signature import Parameter, parse
from sparsenet.kernels.cuda.source import CudaSource, blocks_for, ctype, use_driver

TEXT = """// extern "C" __global__ void commented_out(int x)
#include "shared.cuh"
extern "C" __global__ void __launch_bounds__(256, 2)
scale(const SCALAR* __restrict__ x, /* a comment, with a comma */ OPTIONAL const int *rows,
      const long long size, const SCALAR factor, bool flag, SCALAR* __restrict__ out, UNORDERED unsigned* table) {
}
"""


@dataclass(eq=False)
class FakeArray:
    """An array with the attributes that the launcher reads."""

    dtype: np.dtype = np.dtype("float32")
    at: int = 0
    nbytes: int = 64
    device: int = 0
    flags: object = field(default_factory=lambda: types.SimpleNamespace(c_contiguous=True))


class FakeDriver:
    """Records its arguments."""

    ndarray, wanted = FakeArray, "a fake one"

    def __init__(self):
        self.compiled, self.launched = [], []

    def compile(self, kernel):
        self.compiled.append(kernel.name)
        return lambda *given: self.launched.append(given)

    def address(self, array):
        return array.at


@pytest.fixture
def source(tmp_path):
    (tmp_path / "scaling.cu").write_text(TEXT)
    (tmp_path / "shared.cuh").write_text("// shared\n")
    return CudaSource("scaling", tmp_path)


@pytest.fixture
def driver():
    with use_driver(FakeDriver()) as installed:
        yield installed


@pytest.fixture
def kernel(source, driver):
    return source.kernel("scale", SCALAR="float")


def arguments(**changes) -> list:
    given = {"x": FakeArray(at=0), "rows": None, "size": 5, "factor": 0.5, "flag": True, "out": FakeArray(at=64),
             "table": FakeArray(np.dtype("uint32"), at=128)}
    return list((given | changes).values())


class TestSignatures:
    def test_each_parameter_is_read(self):
        f4, f8 = np.dtype("float32"), np.dtype("float64")
        assert parse(TEXT, {"SCALAR": "float"}) == {"scale": (
            Parameter("x", f4, pointer=True, exclusive=True),
            Parameter("rows", np.dtype("int32"), pointer=True, optional=True),
            Parameter("size", np.dtype("int64")),
            Parameter("factor", f4),
            Parameter("flag", np.dtype("bool")),
            Parameter("out", f4, pointer=True, written=True, exclusive=True),
            Parameter("table", np.dtype("uint32"), pointer=True, written=True, ordered=False),
        )}
        assert parse(TEXT, {"SCALAR": "WIDE", "WIDE": "double"})["scale"][0].dtype == f8

    @pytest.mark.parametrize(("parameter", "message"), [
        ("const SCALAR* x", "k: parameter x has type 'SCALAR', expected one of bool"),
        ("size_t n", "k: parameter n has type 'size_t'"),
        ("float** x", r"k: parameter x has type 'float\*'"),
        ("float", "k: cannot read the parameter|k: parameter float has type ''"),
    ])
    def test_a_type_that_the_launcher_does_not_know(self, parameter, message):
        with pytest.raises(ValueError, match=message):
            parse(f'extern "C" __global__ void k({parameter}) {{', {})

    def test_the_same_kernel_twice_with_other_parameters(self):
        with pytest.raises(ValueError, match="k: is defined twice"):
            parse('extern "C" __global__ void k(int x) { extern "C" __global__ void k(float x) {', {})

    def test_a_name_that_is_not_there(self, source):
        with pytest.raises(KeyError, match=r"scaling.cu has no kernel named 'shrink'; there are \['scale'\]"):
            source.kernel("shrink", SCALAR="float")

    def test_includes_are_put_in_once_and_lines_keep_their_numbers(self, source):
        lines = source.text.splitlines()
        assert lines[:6] == ['#line 1 "scaling.cu"', TEXT.splitlines()[0], '#line 1 "shared.cuh"', "// shared", "",
                             '#line 3 "scaling.cu"']
        assert source.line("scaling.cu", 4).startswith("scale(const") and source.line("shared.cuh", 1) == "// shared"
        assert source.line("nowhere.cu", 1) == source.line("scaling.cu", 99) == ""

    def test_one_object_for_one_variant(self, source):
        assert source.kernel("scale", SCALAR="float") is source.kernel("scale", SCALAR="float")
        assert source.kernel("scale", SCALAR="float") is not source.kernel("scale", SCALAR="double")


class TestLaunch:
    def test_the_driver_gets_sizes_and_arguments(self, kernel, driver):
        given = arguments()
        kernel(3, (32, 4), *given, shared_bytes=128)
        assert driver.launched == [((3, 1, 1), (32, 4, 1), tuple(given), 128)]

    @pytest.mark.parametrize("changes", [
        {}, {"size": 2**62}, {"size": np.int64(5)}, {"factor": 2}, {"factor": np.float32(0.5)}, {"flag": np.True_},
        {"rows": FakeArray(np.dtype("int32"), at=256)},
    ])
    def test_what_fits_is_launched(self, kernel, driver, changes):
        kernel(1, 32, *arguments(**changes))
        assert len(driver.launched) == 1

    def test_compiled_at_the_first_launch_only(self, kernel, driver):
        assert driver.compiled == []
        kernel(1, 32, *arguments())
        kernel(1, 32, *arguments())
        assert driver.compiled == ["scale"] and len(driver.launched) == 2

    @pytest.mark.parametrize("grid", [0, (5, 0), (0, 1, 1)])
    def test_an_empty_grid_launches_nothing_yet_checks(self, kernel, driver, grid):
        kernel(grid, 32, *arguments())
        assert driver.launched == driver.compiled == []
        with pytest.raises(TypeError, match="size is str"):
            kernel(grid, 32, *arguments(size="5"))

    @pytest.mark.parametrize(("changes", "error", "message"), [
        ({"x": FakeArray(np.dtype("float64"))}, TypeError, "x is float64, expected float32: convert it"),
        ({"x": FakeArray(flags=types.SimpleNamespace(c_contiguous=False))}, ValueError, "x is not C-contiguous"),
        ({"out": FakeArray(at=64, flags=types.SimpleNamespace(c_contiguous=True, writeable=False))}, ValueError,
         "out is read-only"),
        ({"x": [1.0]}, TypeError, "x is list, expected a fake one"),
        ({"x": None}, TypeError, "x is None, expected an array of float32: mark the parameter OPTIONAL"),
        ({"out": FakeArray(at=32)}, ValueError, "x and out share memory"),
        ({"rows": FakeArray(np.dtype("int32"), at=100)}, ValueError, "out and rows share memory"),
        ({"size": np.int32(5)}, TypeError, "size is numpy.int32, expected int64"),
        ({"size": 5.0}, TypeError, "size is float, expected a number of type int64: .*reads long long size"),
        ({"size": True}, TypeError, "size is bool, expected a number"),
        ({"size": 2**63}, OverflowError, "size is 9223372036854775808, expected a number that fits int64"),
        ({"factor": np.float64(0.5)}, TypeError, "factor is numpy.float64, expected float32"),
        ({"factor": "half"}, TypeError, "factor is str, expected a number of type float32"),
        ({"flag": 1}, TypeError, "flag is int, expected a number of type bool"),
        ({"size": FakeArray()}, TypeError, "size is FakeArray, expected a number of type int64"),
    ])
    def test_wrong_arguments_are_named(self, kernel, driver, changes, error, message):
        with pytest.raises(error, match="scale: " + message):
            kernel(1, 32, *arguments(**changes))
        assert driver.launched == []

    def test_arrays_that_are_only_read_may_share_memory(self, kernel, driver):
        kernel(1, 32, *arguments(rows=FakeArray(np.dtype("int32"), at=0)))
        assert len(driver.launched) == 1

    def test_a_wrong_count_names_the_parameters(self, kernel):
        with pytest.raises(TypeError, match="scale: got 2 arguments, expected 7: x, rows, size, factor"):
            kernel(1, 32, 1, 2)

    @pytest.mark.parametrize(("grid", "block", "shared_bytes", "message"), [
        (1, 1025, 0, "expected 1 to 1024 threads"), (1, (32, 33), 0, "threads"), (1, 0, 0, "threads"),
        ((1, 65536), 32, 0, "at most 65535 blocks"), (-1, 32, 0, "grid"), (1, 32, 1 << 20, "shared_bytes is 1048576"),
    ])
    def test_sizes_beyond_any_gpu(self, kernel, grid, block, shared_bytes, message):
        with pytest.raises(ValueError, match=message):
            kernel(grid, block, *arguments(), shared_bytes=shared_bytes)

    def test_blocks_depend_on_the_size_alone(self):
        assert [blocks_for(size) for size in (0, 1, 256, 257, 10**12)] == [0, 1, 1, 2, cuda.MAX_BLOCKS]
        assert blocks_for(100, threads=32) == 4

    @pytest.mark.parametrize(("dtype", "name"), [("float32", "float"), ("float64", "double"),
                                                 ("int64", "long long"), ("uint32", "unsigned int")])
    def test_names_of_dtypes(self, dtype, name):
        assert ctype(np.zeros(1, dtype)) == name


def test_numpy_arrays_without_a_driver_raise_and_say_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as where CuPy is not installed
    cuda.cupy_driver.cache_clear()
    with pytest.raises(RuntimeError, match="device 'cuda' needs CuPy: pip install 'sparsenet.cuda12x.'"):
        launch("leaky_relu_forward", np.zeros((1, 1)), 0.5, backend="cuda")


class FakeFunction:
    max_dynamic_shared_size_bytes = 0
    kernel = types.SimpleNamespace(ptr=4711)


class FakeLibrary:
    """CUDA's driver library: records each launch, with the slots of its arguments."""

    def __init__(self, function):
        self.function, self.launched, self.status = function, [], 0

    def cuLaunchKernel(self, function, *given):
        *sizes, stream, places, extra = given
        assert extra is None
        slots = [ctypes.string_at(place, 8) for place in (ctypes.c_void_p * 7).from_address(places)]
        granted = self.function.max_dynamic_shared_size_bytes
        self.launched.append((function, tuple(sizes), stream, slots, granted))
        return self.status

    def cuGetErrorName(self, status, name):
        ctypes.cast(name, ctypes.POINTER(ctypes.c_char_p))[0] = b"CUDA_ERROR_LAUNCH_FAILED"


class CompileException(Exception):
    pass


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy that records its calls."""
    module = types.SimpleNamespace(ndarray=FakeArray, modules=[], function=FakeFunction(), log="", current=0)

    class RawModule:
        def __init__(self, code, options):
            module.modules.append((code, options))

        def get_function(self, name):
            if module.log:
                raise CompileException(module.log)
            return module.function

    module.RawModule = RawModule
    module.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(getDevice=lambda: module.current, memGetInfo=lambda: (0, 0)),
        get_current_stream=lambda: types.SimpleNamespace(ptr=77),
        compiler=types.SimpleNamespace(CompileException=CompileException))
    monkeypatch.setattr(FakeArray, "data", property(lambda a: types.SimpleNamespace(ptr=a.at, device_id=a.device)),
                        raising=False)
    monkeypatch.setattr(FakeArray, "size", 1, raising=False)
    monkeypatch.setattr(cupy_driver, "cupy", lambda: module)
    module.library = FakeLibrary(module.function)
    monkeypatch.setattr(cupy_driver, "driver_library", lambda: module.library)
    with use_driver(cupy_driver.CupyDriver()):
        yield module


class TestCupy:
    def test_one_module_with_the_macros_of_the_variant(self, source, cupy):
        kernel = source.kernel("scale", SCALAR="float", WIDTH=4, FAST=True)
        given = arguments()
        kernel(2, 64, *given)
        kernel(2, 64, *given)
        (module,) = cupy.modules
        assert module == (source.text, ("-std=c++17", "-lineinfo", "-DFAST=1", "-DSCALAR=float", "-DWIDTH=4"))
        function, sizes, stream, _, _ = cupy.library.launched[1]
        assert (function, sizes, stream) == (4711, (2, 1, 1, 64, 1, 1, 0), 77)

    @pytest.mark.parametrize("number", [int, np.int64])
    def test_each_argument_lies_in_its_slot(self, source, cupy, number):
        kernel = source.kernel("scale", SCALAR="float")
        kernel(1, 32, *arguments(x=FakeArray(at=2**40), size=number(-3), rows=None, factor=0.25, flag=True))
        ((_, _, _, slots, _),) = cupy.library.launched
        x, rows, size, factor, flag, out, table = slots
        assert [int.from_bytes(slot, "little") for slot in (x, rows, out, table)] == [2**40, 0, 64, 128]
        assert int.from_bytes(size, "little", signed=True) == -3 and flag[0] == 1
        assert np.frombuffer(factor[:4], np.float32) == 0.25

    def test_threads_do_not_share_slots(self, source, cupy):
        kernel, barrier = source.kernel("scale", SCALAR="float"), threading.Barrier(2)
        note = cupy.library.cuLaunchKernel

        def meet_first(*given):  # both have filled their slots before either is read
            barrier.wait()
            return note(*given)

        cupy.library.cuLaunchKernel = meet_first
        threads = [threading.Thread(target=kernel, args=(1, 32, *arguments(size=size))) for size in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {int.from_bytes(slots[2], "little") for _, _, _, slots, _ in cupy.library.launched} == {1, 2}

    def test_a_launch_that_cuda_refuses(self, source, cupy):
        cupy.library.status = 719
        with pytest.raises(RuntimeError, match=r"scale: CUDA_ERROR_LAUNCH_FAILED at \(3, 1, 1\) blocks"):
            source.kernel("scale", SCALAR="float")(3, 32, *arguments())

    def test_much_shared_memory_is_asked_for_first(self, source, cupy):
        kernel = source.kernel("scale", SCALAR="float")
        for shared_bytes in (1024, 100_000, 50_000):
            kernel(1, 32, *arguments(), shared_bytes=shared_bytes)
        assert [granted for *_, granted in cupy.library.launched] == [0, 100_000, 100_000]

    def test_each_device_compiles_for_itself(self, source, cupy):
        kernel = source.kernel("scale", SCALAR="float")
        kernel(1, 32, *arguments())
        cupy.current = 1
        with pytest.raises(TypeError, match="scale: x is on GPU 0, expected the current one, 1: choose it"):
            kernel(1, 32, *arguments())
        moved = arguments()
        for value in moved:
            if isinstance(value, FakeArray):
                value.device = 1
        kernel(1, 32, *moved)
        assert len(cupy.modules) == 2

    def test_a_numpy_array_is_refused(self, source, cupy):
        with pytest.raises(TypeError, match="scale: x is ndarray, expected an array on the GPU: move it"):
            source.kernel("scale", SCALAR="float")(1, 32, *arguments(x=np.zeros(4, np.float32)))

    def test_a_compile_error_shows_the_line(self, source, cupy):
        cupy.log = "scaling.cu(4): error: expected a semicolon\n1 error detected"
        with pytest.raises(CompileError, match=r"scale .*does not compile:\n.*semicolon\n +4 \| scale\(const SCALAR"):
            source.kernel("scale", SCALAR="float")(1, 32, *arguments())
