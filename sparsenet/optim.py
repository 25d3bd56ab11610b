"""The optimizers and schedules by their public names, and clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sparsenet.adam import Adam, AdamW
from sparsenet.autograd import Tensor
from sparsenet.backend import array_module, to_device
from sparsenet.moving_average import EMA
from sparsenet.named_parameters import check_several
from sparsenet.optimizer import moves
from sparsenet.parameter_groups import ParameterGroups, decay_groups
from sparsenet.schedules import ConstantRate, CosineDecay, ExponentialDecay, StepDecay
from sparsenet.sgd import SGD

__all__ = ["EMA", "SGD", "Adam", "AdamW", "ConstantRate", "CosineDecay", "ExponentialDecay", "ParameterGroups",
           "StepDecay", "clip_gradients", "decay_groups"]


def clip_gradients(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by one factor so that their total Euclidean norm is at most `max_norm`; gradients of
    frozen parameters do not count.

    Returns the norm before scaling.  Pascanu, Mikolov, Bengio 2013, algorithm 1.

    Raises TypeError if params is a single Tensor or contains anything but Tensors.
    """
    check_several("clip_gradients", params)
    parameters = list(params)
    for position, tensor in enumerate(parameters):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"clip_gradients: parameter {position} is {type(tensor).__name__}, expected a Tensor: pass "
                            "net.parameters()")
    given = [tensor for tensor in parameters if moves(tensor)]
    squares = [(tensor.grad.astype("float64") ** 2).sum() for tensor in given]
    norm = math.sqrt(sum(to_device(array_module(*squares).stack(squares), "cpu").tolist())) if squares else 0.0
    if norm > max_norm:
        for tensor in given:
            tensor.grad = tensor.grad * (max_norm / norm)
    return norm
