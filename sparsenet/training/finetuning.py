"""Fine-tuning: first weights from a checkpoint, frozen layers, and classes that are new."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparsenet.training.checkpoint import CheckpointError, load_checkpoint
from sparsenet.training.config import ConfigError, parse_config
from sparsenet.training.losses import classifies
from sparsenet.training.schema import Config
from sparsenet.wording import counted, did_you_mean, listed

if TYPE_CHECKING:
    from sparsenet.nn import Module, SparseNetwork

_NAMED = 5  # arrays or classes listed in a message


def initialise(net: SparseNetwork, config: Config, classes: Sequence[str]) -> list[str]:
    """Copy the weights of network.init_from into the network, and return lines that say what was taken.

    An array is taken if its name and shape are the network's; the others keep their initial values.  The columns
    of a classifier of the same descriptor are taken by class name, so that classes may be added, left out or reordered;
    a new class keeps its initial weights.

    classes : names of the network's classes, by label

    Raises
    ------
    ConfigError : no array fits.
    FileNotFoundError, ValueError : the file is missing, damaged, or holds no weights.
    """
    path = config.network.init_from
    weights, theirs = _read(path)
    own = net.get_weights()
    classifier = _classifier_of(net, config)
    if theirs is not None:  # as a whole or not at all: a bias belongs to its weight
        found = [(name, _columns(weights.get(name), own[name], theirs, classes)) for name in classifier]
        columns = {name: array for name, array in found if array is not None}
        weights = {name: array for name, array in weights.items() if name not in classifier}
        weights |= columns if len(columns) == len(classifier) else {}
    taken = {name: weights[name] for name, array in own.items()
             if name in weights and weights[name].shape == array.shape}
    odd = [name for name in own if name not in taken]
    if not taken:
        raise ConfigError(f"config: network.init_from: no array of {path} has the name and shape of one of the "
                          f"network's, {', '.join(list(own)[:_NAMED])}, ...: choose a checkpoint of such a network")
    net.load_state_dict(taken, strict=False)
    lines = [f"network.init_from: {len(taken)} of {counted(len(own), 'array')} from {path}"]
    if odd:
        lines[0] += f"; initial values for {listed(odd, _NAMED)}"
    if theirs and set(classifier) & set(taken):
        new = [name for name in classes if name not in theirs]
        lines[0] += f"; {counted(len(new), 'new class', 'new classes')}: {listed(new, _NAMED)}" if new else ""
    return lines


def _read(path: str) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """The weights of a checkpoint and its classifier's classes, [] for one without a classifier; of a file of weights
    alone the classes are unknown, None."""
    from sparsenet.nn.weights_file import read_weights

    if not Path(path).is_file():
        raise FileNotFoundError(f"network.init_from: {path}: no such file")
    try:
        state = load_checkpoint(path)
    except CheckpointError:
        return read_weights(path), None
    return state.weights, state.classes if classifies(parse_config(state.config, path)) else []


def _classifier_of(net: SparseNetwork, config: Config) -> list[str]:
    """The names of the arrays of the last layer, if its outputs are classes."""
    name, layer = net.names()[-1], net.layers[-1]
    return [f"{name}.{own}" for own, _ in layer.named_parameters()] if classifies(config) else []


def _columns(given: np.ndarray | None, array: np.ndarray, theirs: Sequence[str],
             classes: Sequence[str]) -> np.ndarray | None:
    """`array` (..., classes) with the columns of the classes that both know taken from `given` (..., theirs).

    None if it does not fit, or they share no class.
    """
    shared = [name for name in classes if name in theirs]
    if given is None or not shared or given.shape != (*array.shape[:-1], len(theirs)):
        return None
    columns = array.copy()
    columns[..., [classes.index(name) for name in shared]] = given[..., [theirs.index(name) for name in shared]]
    return columns


def freeze(net: SparseNetwork, patterns: Sequence[str]) -> None:
    """Freeze the parameters that a pattern of network.freeze matches: their names, or those of the layers they are in.

    Raises ConfigError if a pattern matches none, or no parameter is left to train.
    """
    parameters = dict(net.named_parameters())
    for pattern in patterns:
        matched = [name for name in parameters if _matches(name, pattern)]
        if not matched:
            known = [*net.names(), *parameters]
            hint = did_you_mean(pattern, known) or f", expected names such as {listed(net.names(), _NAMED)}"
            raise ConfigError(f"config: network.freeze: no parameter matches {pattern!r}{hint}")
        for name in matched:
            parameters[name].requires_grad = False
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError("config: network.freeze freezes all parameters: leave some to train")


def _matches(name: str, pattern: str) -> bool:
    """Whether the pattern (*, ?, [...]) matches the name of a parameter, or of a layer that it is in."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:count]), pattern) for count in range(1, len(parts) + 1))


def train_mode(net: SparseNetwork) -> None:
    """Training mode, except for norms whose parameters are all frozen: these normalise by their running statistics, and
    leave them unchanged."""
    net.train()
    for module in net.modules():
        if _is_frozen(module):
            module.eval()


def _is_frozen(module: Module) -> bool:
    parameters = list(module.parameters())
    lone = not any(module.named_children()) and any(module.named_buffers())
    return lone and bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
