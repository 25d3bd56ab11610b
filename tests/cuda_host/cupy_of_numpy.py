"""A CuPy made of NumPy: a device that exists everywhere, for tests of what happens between kernels.

    with installed(driver):                      # driver: HostDriver
        net.to("cuda"), batch.to("cuda"), ...

Arrays of the device are NumPy arrays of a class of their own.  As with CuPy, an operation refuses to mix them
with plain NumPy arrays, gives arrays of the device (of no axis too, never NumPy scalars), and only `get` brings
them back.  Functions that the real CuPy lacks are refused where it is installed.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from sparsenet.kernels.cuda import Driver, use_driver

_FROM_HOST = ("array", "asarray", "ascontiguousarray")  # these take NumPy arrays to the device


class DeviceArray(np.ndarray):
    """An array of the device."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return _to_device(getattr(ufunc, method)(*_plain(inputs), **_plain(options)))

    def __array_function__(self, function, types, arguments, options):
        return _to_device(function(*_plain(arguments), **_plain(options)))

    def __getitem__(self, key):
        return _to_device(self.view(np.ndarray)[_plain(key)])

    def __setitem__(self, key, value):
        self.view(np.ndarray)[_plain(key)] = _plain(value)

    def get(self) -> np.ndarray:
        """A copy on the host."""
        return np.array(self.view(np.ndarray))

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
    if importlib.util.find_spec("cupy") is None:
        return None
    import cupy

    return cupy


def _check_call(function: Any, arguments: tuple, options: dict) -> None:
    """TypeError where the real function does not take these arguments; ufuncs do not tell."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return
    signature.bind(*arguments, **options)


_DEVICE = types.SimpleNamespace(compute_capability="90", synchronize=lambda: None)


class _Module(types.ModuleType):
    ndarray = DeviceArray
    cuda = types.SimpleNamespace(is_available=lambda: True, Device=lambda: _DEVICE)

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
            if name not in _FROM_HOST:
                arguments, options = _plain(arguments), _plain(options)
            return _to_device(function(*arguments, **options))

        return on_device


@contextmanager
def installed(driver: Driver) -> Iterator[None]:
    """Within it `import cupy` gives this module, and kernels run by `driver`."""
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
