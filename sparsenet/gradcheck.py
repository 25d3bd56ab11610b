"""Gradient checks in float64: `backward` against central differences.

Each input is moved along random unit directions, and the change of a random weighted sum of the outputs
is compared with the prediction of the gradient.  A direction detects an error in any entry and costs four
forward passes, whereas checking entry by entry costs two for each.

Slopes for two step sizes, and on both sides, distinguish a wrong gradient from a point without a derivative: they
agree if the function is smooth, and differ if it has a kink within a step (a ReLU near 0, a maximum near a tie, a
hinge near its corner).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sparsenet.anomaly import tensors_in
from sparsenet.autograd import Function, Tensor, no_grad
from sparsenet.backend import array_module, to_device

STEP = 1e-5  # the error of a central difference is about STEP**2 times the third derivative ...
ROUNDING = 2e-15  # ... plus this fraction of the outputs divided by the step


class GradcheckError(AssertionError):
    """A gradient differs from the measured slope."""


class NonDifferentiableError(GradcheckError):
    """The function has no derivative at the point of the check."""


def gradcheck(function: Callable[..., Any], inputs: Sequence[Any] | Mapping[str, Any] | Tensor, *,
              parameters: Mapping[str, Tensor] | Sequence[Tensor] = (), tolerance: float = 1e-6,
              directions: int = 2, seed: int = 0) -> bool:
    """Check the gradient of `function` with respect to every input and parameter that requires one.

    function : called with the inputs; returns a Tensor, a SparseTensor (features and background are both
        checked) or a tuple of them; must be deterministic
    inputs : the arguments, or a mapping for keyword arguments.  Tensors and the features and background of
        SparseTensors are checked if they require a gradient; anything else is passed on.
    parameters : a mapping or sequence of Tensors that the function uses but does not receive as arguments
    tolerance : allowed difference between the slopes, relative to the larger one (or to the typical slope along
        a random direction, if that is larger)
    directions : number of random directions for each tensor
    seed : seed of the random directions and weights

    Returns True.  Arrays and `.grad` of all tensors are restored.

    Raises
    ------
    GradcheckError : a gradient is wrong, or the function writes to an input; the message names the input.
    NonDifferentiableError : the function has a kink here, so it has no gradient: choose other inputs.
    TypeError : a tensor to be checked is not float64 or is computed from others, or there is nothing to check.
    ValueError : the function returns different values when it is called again.
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else inputs
    checked = _collect(inputs, parameters)
    measure = _Measure(function, inputs, np.random.default_rng(seed))
    gradients = measure.gradients(checked)
    for name, tensor in checked.items():
        for _ in range(directions if tensor.size else 0):
            _check_direction(name, tensor, gradients[name], measure, tolerance)
    return True


class _WeightedSum(Function):
    """sum of weight * output over all outputs."""

    def __init__(self, weights: list[np.ndarray]):
        super().__init__()
        self.weights = weights

    def forward(self, *outputs: Any) -> Any:
        return sum((output * array_module(output).asarray(weight)).sum()
                   for output, weight in zip(outputs, self.weights, strict=True))

    def backward(self, gradient: Any) -> tuple[Any, ...]:
        return tuple(gradient * array_module(gradient).asarray(weight) for weight in self.weights)


class _Measure:
    """The outputs of the function, flattened and weighted by fixed random numbers."""

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Any] | Mapping[str, Any],
                 rng: np.random.Generator):
        self.rng = rng
        self.call = lambda: tensors_in(function(**inputs) if isinstance(inputs, Mapping) else function(*inputs))
        with no_grad():
            outputs = self.call()
        self.weights = [rng.standard_normal(output.shape) for output in outputs]
        self.here = self.values()
        if not all(np.array_equal(output.numpy() * weight, value, equal_nan=True)
                   for output, weight, value in zip(outputs, self.weights, self.here, strict=True)):
            raise ValueError("gradcheck: the function returns different values when it is called again: "
                             "fix the random numbers that it draws")

    def values(self) -> list[np.ndarray]:
        with no_grad():
            return [output.numpy() * weight for output, weight in zip(self.call(), self.weights, strict=True)]

    def values_at(self, tensor: Tensor, move: np.ndarray) -> list[np.ndarray]:
        before = tensor.array
        tensor.array = before + array_module(before).asarray(move)
        try:
            return self.values()
        finally:
            tensor.array = before

    def gradients(self, checked: dict[str, Tensor]) -> dict[str, np.ndarray]:
        grads = {name: tensor.grad for name, tensor in checked.items()}
        arrays = {name: tensor.numpy().copy() for name, tensor in checked.items()}
        try:
            for tensor in checked.values():
                tensor.grad = None
            total = _WeightedSum(self.weights).apply(*self.call())
            if total.requires_grad:
                total.backward()
            for name, tensor in checked.items():
                if not np.array_equal(tensor.numpy(), arrays[name], equal_nan=True):
                    raise GradcheckError(f"gradcheck: forward or backward wrote to input {name}")
            return {name: np.zeros(tensor.shape) if tensor.grad is None else to_device(tensor.grad, "cpu")
                    for name, tensor in checked.items()}
        finally:
            for name, tensor in checked.items():
                tensor.grad = grads[name]


def _check_direction(name: str, tensor: Tensor, gradient: np.ndarray, measure: _Measure,
                     tolerance: float) -> None:
    direction = measure.rng.standard_normal(tensor.shape)
    direction /= np.sqrt((direction**2).sum())
    step = STEP * max(1.0, float(np.abs(tensor.numpy()).max()))
    points = {move: measure.values_at(tensor, move * step * direction) for move in (-1, -0.5, 0.5, 1)}
    points[0] = measure.here

    def slope(start: float, stop: float) -> float:
        rise = sum(float((b - a).sum()) for a, b in zip(points[start], points[stop], strict=True))
        return rise / ((stop - start) * step)

    predicted, measured, nearer = float((gradient * direction).sum()), slope(-1, 1), slope(-0.5, 0.5)
    typical = float(np.sqrt((gradient**2).sum() / gradient.size))
    scale = max(abs(predicted), abs(measured), typical)
    noise = ROUNDING * np.sqrt(sum(float((value**2).sum()) for value in measure.here)) / step
    # The one-sided slopes of a smooth function converge as the step shrinks; those at a kink do not.
    bend, nearer_bend = abs(slope(0, 1) - slope(-1, 0)), abs(slope(0, 0.5) - slope(-0.5, 0))
    corner = nearer_bend > 0.75 * bend and bend > tolerance * scale + 10 * noise
    if corner or abs(measured - nearer) > 0.2 * tolerance * scale + 10 * noise:
        raise NonDifferentiableError(
            f"gradcheck: no derivative in input {name}: along a random direction the slope is "
            f"{slope(-1, 0):.9g} to the left, {slope(0, 1):.9g} to the right, {measured:.9g} across, "
            f"{nearer:.9g} across half the step: move the inputs away from ties and corners")
    if not abs(predicted - measured) <= tolerance * scale + noise:  # written so that NaN fails
        raise GradcheckError(
            f"gradcheck: gradient of input {name}, shape {tensor.shape}: along a random direction backward "
            f"predicts a slope of {predicted:.12g}, finite differences give {measured:.12g}")


def _collect(inputs: Any, parameters: Any) -> dict[str, Tensor]:
    """The tensors to check, by name."""
    checked: dict[str, Tensor] = {}
    for group in (inputs, parameters):
        kind = "parameter " if group is parameters else ""
        for key, value in group.items() if isinstance(group, Mapping) else enumerate(group):
            tensors = tensors_in(value)
            for index, tensor in enumerate(tensors):
                name = f"{kind}{key}" + (f"[{index}]" if len(tensors) > 1 else "")
                if tensor.requires_grad:
                    checked[name] = tensor
    if not checked:
        raise TypeError("gradcheck: nothing to check: no input is a Tensor that requires a gradient")
    for name, tensor in checked.items():
        if tensor.dtype != np.float64:
            raise TypeError(f"gradcheck: input {name} is {tensor.dtype}, expected float64: differences are "
                            "too inaccurate in lower precision")
        if tensor._creator is not None:
            raise TypeError(f"gradcheck: input {name} is computed from other tensors: pass those, or detach it")
    return checked
