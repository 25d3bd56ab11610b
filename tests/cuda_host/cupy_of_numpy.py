"""A CuPy made of NumPy: a device that exists everywhere, for tests of what happens between kernels.

    with installed(driver):                      # driver: HostDriver
        net.to("cuda"), batch.to("cuda"), ...

Arrays of the device are NumPy arrays of a class of their own.  As with CuPy, an operation refuses to mix them
with plain NumPy arrays, gives arrays of the device (of no axis too, never NumPy scalars), and only `get` brings
them back.  Functions that the real CuPy lacks are refused where it is installed.

What a GPU would be asked for beside our kernels is counted, by thread: `operations()`, each at least one launch
of CuPy's, and `waits()`, each time that a number or an array comes to the host, said or unsaid (`if x.any():`).

Streams and events are there in name: everything happens at once, so every event has passed.
"""

from __future__ import annotations

import atexit
import importlib.util
import inspect
import sys
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.kernels.cuda.source import Driver, use_driver

_MADE = ("empty", "zeros", "ones")  # from no array
_FROM_HOST = ("array", "asarray", "ascontiguousarray")  # these take NumPy arrays to the device


_VIEWS = ("reshape", "broadcast_to", "ravel", "transpose", "array", "asarray", "ascontiguousarray", "empty",
          "empty_like")  # no launch, or none where there is nothing to copy
_seen = threading.local()


def operations() -> Counter:
    """The number of operations of CuPy itself that this thread has called so far, by name."""
    if not hasattr(_seen, "operations"):
        _seen.operations, _seen.waits = Counter(), 0
    return _seen.operations


def waits() -> int:
    """How often this thread has waited so far."""
    operations()
    return _seen.waits


def _count(name: str) -> None:
    if name not in _VIEWS:
        operations()[name] += 1


class DeviceArray(np.ndarray):
    """An array of the device."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        _count(ufunc.__name__)
        return _to_device(getattr(ufunc, method)(*_plain(inputs), **_plain(options)))

    def __array_function__(self, function, types, arguments, options):
        _count(function.__name__)
        return _to_device(function(*_plain(arguments), **_plain(options)))

    def __getitem__(self, key):
        plain = self.view(np.ndarray)
        found = plain[_plain(key)]
        if not np.may_share_memory(found, plain):
            _count("take")
        return _to_device(found)

    def __setitem__(self, key, value):
        _count("setitem")
        self.view(np.ndarray)[_plain(key)] = _plain(value)

    def get(self, stream: Any = None, order: str = "C", out: np.ndarray | None = None,
            blocking: bool = True) -> np.ndarray:
        """A copy on the host; it counts as a wait even if nothing waits for it yet."""
        operations()
        _seen.waits += 1
        out = np.empty(self.shape, self.dtype) if out is None else out
        out[...] = self.view(np.ndarray)
        return out

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    __index__ = __int__

    def __float__(self) -> float:
        return float(self.get())

    def item(self, *place: int) -> Any:
        return self.get().item(*place)

    def tolist(self) -> Any:
        return self.get().tolist()

    @property
    def device(self):
        return types.SimpleNamespace(id=0)


# What CuPy's methods take by name, where that is less than NumPy's (CuPy 14).
_REDUCTION = ("axis", "out", "keepdims")
_METHODS = {
    "max": _REDUCTION, "min": _REDUCTION, "any": _REDUCTION, "all": _REDUCTION,
    "sum": (*_REDUCTION, "dtype"), "prod": (*_REDUCTION, "dtype"), "mean": (*_REDUCTION, "dtype"),
    "argmax": (*_REDUCTION, "dtype"), "argmin": (*_REDUCTION, "dtype"),
    "argsort": ("axis", "kind"), "sort": ("axis", "kind"), "cumsum": ("axis", "dtype", "out"),
    "clip": ("min", "max", "out"), "take": ("indices", "axis", "out"), "repeat": ("repeats", "axis"),
}


def _method(name: str, named: tuple[str, ...]) -> Callable:
    def method(self: DeviceArray, *arguments: Any, **options: Any) -> Any:
        if unknown := set(options) - set(named):
            raise TypeError(f"cupy.ndarray.{name} takes no {', '.join(sorted(unknown))}")
        _count(name)
        return _to_device(getattr(self.view(np.ndarray), name)(*_plain(arguments), **_plain(options)))

    return method


for _name, _named in _METHODS.items():
    setattr(DeviceArray, _name, _method(_name, _named))


def _plain(value: Any) -> Any:
    """Operands as plain arrays; a NumPy array among them is refused."""
    if isinstance(value, DeviceArray):
        return value.view(np.ndarray)
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type numpy.ndarray of shape {value.shape} among arrays of the device")
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value))
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value


def _to_device(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value).view(DeviceArray)
    return type(value)(map(_to_device, value)) if isinstance(value, (tuple, list)) else value


@cache
def _real() -> types.ModuleType | None:
    spec = importlib.util.find_spec("cupy")
    if spec is None or Path(spec.origin or "").parent == Path(__file__).with_name("stand_in"):
        return None
    import cupy

    return cupy


def _check_call(function: Any, arguments: tuple, options: dict) -> None:
    """Raise TypeError if the real function does not take these arguments; ufuncs cannot be checked."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return
    signature.bind(*arguments, **options)


class _Device:
    compute_capability = "90"
    id = 0

    def __init__(self, number: int = 0):
        assert number == 0

    def synchronize(self) -> None:
        pass

    def __enter__(self) -> _Device:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class _Event:
    done = True

    def __init__(self, block: bool = False, disable_timing: bool = False):
        self.time = 0.0

    def record(self, stream: Any = None) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        pass


class _Stream:
    ptr = 0

    def __init__(self, non_blocking: bool = False):
        self.ptr = id(self)

    def record(self) -> _Event:
        event = _Event()
        event.record()
        return event

    def wait_event(self, event: _Event) -> None:
        assert isinstance(event, _Event)

    def synchronize(self) -> None:
        pass

    def __enter__(self) -> _Stream:
        _seen.streams = [*vars(_seen).get("streams", ()), self]
        return self

    def __exit__(self, *error: object) -> None:
        _seen.streams.pop()


def _current_stream() -> _Stream:
    streams = vars(_seen).get("streams", ())
    return streams[-1] if streams else _NULL


_NULL = _Stream()


@contextmanager
def _using_allocator(allocator: Callable) -> Iterator[None]:
    yield  # NumPy's arrays have memory of their own


class _RawModule:
    """A source that CuPy would compile; none of it runs."""

    def __init__(self, code: str, options: tuple[str, ...] = ()):
        self.code = code

    def get_function(self, name: str) -> Any:
        if f" {name}(" not in self.code and f"\n{name}(" not in self.code:
            raise ValueError(f"the source has no kernel {name!r}")
        return types.SimpleNamespace(name=name)


class _Module(types.ModuleType):
    ndarray = DeviceArray
    RawModule = _RawModule
    __version__ = "0 (of NumPy)"
    cuda = types.SimpleNamespace(
        is_available=lambda: True, Device=_Device, Stream=_Stream, Event=_Event,
        get_current_stream=_current_stream, get_allocator=lambda: None,
        using_allocator=_using_allocator, alloc_pinned_memory=bytearray,
        get_elapsed_time=lambda begin, end: 1e3 * (end.time - begin.time),
        compiler=types.SimpleNamespace(CompileException=RuntimeError),
        runtime=types.SimpleNamespace(
            getDeviceProperties=lambda number: {"name": b"NumPy", "major": 9, "minor": 0, "totalGlobalMem": 2**34},
            runtimeGetVersion=lambda: 12090, driverGetVersion=lambda: 12090, getDeviceCount=lambda: 1,
            getDevice=lambda: 0, memGetInfo=lambda: (2**30, 2**34),
            deviceGetAttribute=lambda attribute, number: {13: 1_980_000, 16: 132}[attribute]))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if _real() is not None and not hasattr(_real(), name):
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        function = getattr(np, name)
        if isinstance(function, type) or not callable(function):
            return function

        def on_device(*arguments: Any, **options: Any) -> Any:
            if _real() is not None:
                _check_call(getattr(_real(), name), arguments, options)
            _count(name)
            if name in _MADE:
                return function(*arguments, **options).view(DeviceArray)
            if name not in _FROM_HOST:
                arguments, options = _plain(arguments), _plain(options)
            return _to_device(function(*arguments, **options))

        setattr(self, name, on_device)  # found at once from here on
        return on_device


def install(driver: Driver) -> None:
    """Make `import cupy` return this module, and run kernels by `driver`, until the process ends."""
    until_the_end = ExitStack()
    until_the_end.enter_context(installed(driver))
    atexit.register(until_the_end.close)


@contextmanager
def installed(driver: Driver) -> Iterator[None]:
    """A context in which `import cupy` returns this module, and kernels run by `driver`."""
    _real()
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = _Module("cupy")
    try:
        with use_driver(driver):
            yield
    finally:
        if before is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = before
