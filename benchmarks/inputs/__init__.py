"""Realistic inputs of every kernel, for `sparsenet benchmark kernel NAME` and its test.

The module FAMILY.py has a function of a `Scene` for each kernel of the family, of the kernel's name, which returns the
arguments in the order of the contract:

    def leaky_relu_forward(scene: Scene) -> Inputs:
        return Inputs((scene.features(), 0.33, scene.background()))

All of them are on the host; `benchmarks.kernel` moves them to a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from benchmarks.inputs.scene import Scene
from sparsenet.kernels import find

__all__ = ["Inputs", "Scene", "family_of", "inputs_of"]


class Inputs(NamedTuple):
    """The arguments of a kernel.

    arguments : in the order of its contract
    multiply_adds : of a kernel that multiplies matrices; 0: it is compared with a copy of its bytes
    comparable : the part of a result, with its arrays on the host, that all backends have in common; default: all of it
    """

    arguments: tuple[Any, ...]
    multiply_adds: int = 0
    comparable: Callable[[Any], Any] = lambda result: result


def family_of(name: str) -> str:
    """The folder of `sparsenet/kernels` that holds a kernel."""
    return find(name).modules["cpu"].partition(".")[0]


def inputs_of(name: str, size: int) -> Inputs:
    """The inputs of a kernel.

    size : about so many rows: sites, points, triangles, or whatever the kernel has most of

    Raises NotImplementedError, which says where it belongs, if nobody has written them.
    """
    family = family_of(name)
    place = f"benchmarks.inputs.{family}"
    try:
        module = import_module(place)
    except ModuleNotFoundError as error:
        if error.name != place:
            raise
        module = None
    if not hasattr(module, name):
        raise NotImplementedError(f"{name} has no inputs: write them as a function {name}(scene) in "
                                  f"benchmarks/inputs/{family}.py")
    return getattr(module, name)(Scene(size))
