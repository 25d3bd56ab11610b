"""`detect_anomaly`: stop at the first number that is not finite, and name the layer.

Disabled, it costs a look at a flag per call.  Enabled, it checks every output of every operation and layer and
every gradient (on a GPU each check waits for the device): use it to find a fault, not for training.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ContextDecorator
from types import SimpleNamespace
from typing import Any

from sparsenet.autograd import Tensor, as_array, thread_state
from sparsenet.backend import array_module
from sparsenet.layer_stack import innermost, layer_path


class _State(threading.local):
    depth = 0  # number of nested detect_anomaly blocks on this thread


_state = _State()


class detect_anomaly(ContextDecorator):
    """Context manager and decorator: on this thread, raise at the first NaN or infinity.

    In a forward pass the error names the layer (its path in the network and its class), the operation, and the
    inputs and parameters that were already not finite; in a backward pass the operation of the gradient,
    and its layer if the forward pass also ran under `detect_anomaly`.

    Raises
    ------
    FloatingPointError : from the operation, layer or `backward` that produced the number.

    Example
    -------
    >>> import numpy as np, sparsenet as sn
    >>> layer = sn.nn.Linear(1, 1, rng=0)
    >>> layer.weight.array = np.full((1, 1), np.inf, np.float32)
    >>> with sn.detect_anomaly():
    ...     layer(sn.Tensor(np.ones((1, 1), np.float32)))
    Traceback (most recent call last):
    FloatingPointError: detect_anomaly: Linear in layer Linear(1 -> 1) gave inf at (0, 0) of its output, float32 \
(1, 1): its parameter weight, float32 (1, 1), already held inf
    """

    def __enter__(self) -> None:
        _state.depth += 1
        thread_state.checks = _CHECKS

    def __exit__(self, *error: object) -> None:
        _state.depth -= 1
        if not _state.depth:
            thread_state.checks = None


def check_outputs(operation: str, inputs: Sequence[Tensor | None], outputs: Sequence[Any]) -> None:
    """Raise FloatingPointError if an output of an operation is not finite."""
    for output in outputs:
        number = _not_finite(output.array)
        if number:
            raise FloatingPointError(f"detect_anomaly: {operation}{layer_path()} gave {number} of its output, "
                                     f"{_kind(output)}: {_origin(inputs)}")


def check_layer(inputs: Sequence[Any], output: Any) -> None:
    """Raise FloatingPointError if the output of the innermost layer is not finite, however it was computed."""
    check_outputs("forward", tensors_in(inputs), tensors_in(output))


def check_gradients(operation: str, layer: str, gradients: Sequence[Any], what: str) -> None:
    """Raise FloatingPointError if a gradient is not finite.  layer : `layer_path` during its forward pass."""
    for position, gradient in enumerate(gradients):
        gradient = None if gradient is None else as_array(gradient)
        number = None if gradient is None else _not_finite(gradient)
        if number:
            raise FloatingPointError(f"detect_anomaly: {operation}{layer}: {what} {position}, {gradient.dtype} "
                                     f"{gradient.shape}, is {number}")


def _origin(inputs: Sequence[Tensor | None]) -> str:
    layer = innermost()
    parameters = {} if layer is None else dict(layer.named_parameters())
    for position, tensor in enumerate(inputs):
        number = None if tensor is None else _not_finite(tensor.array)
        if number:
            names = [f"parameter {name}" for name, parameter in parameters.items() if parameter is tensor]
            return f"its {(names or [f'input {position}'])[0]}, {_kind(tensor)}, already held {number.split()[0]}"
    return "its inputs were finite"


def _not_finite(array: Any) -> str:
    """A description of the first number that is not finite, with its index; "" if all are finite."""
    if array.dtype.kind != "f":
        return ""
    xp = array_module(array)
    wrong = xp.flatnonzero(~xp.isfinite(array))
    if not wrong.size:
        return ""
    place = tuple(int(i) for i in xp.unravel_index(wrong[0], array.shape)) if array.ndim else ()
    return f"{float(array[place])} at {place}" if place else f"{float(array)} as the one number"


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tensor.shape}"


def tensors_in(value: Any) -> list[Tensor]:
    """The Tensors in an input or output: itself, a SparseTensor's features and background, or those of a sequence."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in tensors_in(part)]
    parts = (getattr(value, "features", None), getattr(value, "background", None))
    return [part for part in parts if isinstance(part, Tensor)]


# called by autograd and by layers, which do not import this module
_CHECKS = SimpleNamespace(layer_path=layer_path, outputs=check_outputs, layer=check_layer, gradients=check_gradients)
