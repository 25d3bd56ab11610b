"""Networks to PyTorch, weights from PyTorch and spconv."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.export import layers  # noqa: F401  (registers the equivalents)
from sparsenet.export.dense import dense_graph
from sparsenet.export.weights import weight_from_spconv, weight_from_torch, weight_from_transposed
from sparsenet.nn.module import Module

if TYPE_CHECKING:
    import torch


def to_torch(net: Module, field: int | Sequence[int] | None = None, background: Any = "zeros",
             in_channels: int | None = None) -> torch.nn.Module:
    """The dense network that a sparse network in evaluation mode equals, as a module of PyTorch in evaluation mode.

    It takes a grid (B, C, *field) of the network's dtype, as `x.to_dense()` gives it, and returns what the network
    returns, or, if that is a SparseTensor, its `to_dense()`.  Its weights are copies, on the CPU; modules and
    weights have the network's names, so `net.load_state_dict(from_torch(module))` brings them back.

    It can be trained further: BatchNorm then takes the statistics of all cells, Dropout is left out, and the
    backgrounds that convolutions pad with stay those of the weights at the export.

    Parameters and errors as for `onnx`.

    Raises
    ------
    RuntimeError : torch is not installed.
    ValueError : see `onnx`; a filter has more than three dimensions.
    """
    graph = dense_graph(net, field, background, in_channels)
    try:
        from sparsenet.export.torch_module import DenseNetwork
    except ModuleNotFoundError as error:
        raise RuntimeError("to_torch: it needs torch, which is not installed: pip install torch") from error
    return DenseNetwork(graph).eval()


def from_torch(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """The weights of a module of PyTorch or spconv by name, in the layouts of this package: for
    `layer.load_state_dict`.

    module : a layer, or a module made of layers; those of both libraries may be mixed.  Convolutions (PyTorch's
        transposed ones for TransposedConv or InverseConv, spconv's inverse ones for the latter), Linear, and all whose
        weights are vectors, such as norms with affine parameters; weights on a GPU are copied

    The names are the module's, "0.weight" in a Sequential; `docs/weights.md` says which layers correspond.

    Raises
    ------
    TypeError : it is not a module of PyTorch.
    ValueError : a layer of another kind has a weight; it is named.

    Example
    -------
    >>> import torch, sparsenet as sn                                   # doctest: +SKIP
    >>> theirs = torch.nn.Conv3d(3, 8, 2)                               # doctest: +SKIP
    >>> layer = sn.nn.SparseConv(3, 8, 2)                               # doctest: +SKIP
    >>> layer.load_state_dict(sn.export.from_torch(theirs))             # doctest: +SKIP
    """
    torch = sys.modules.get("torch")  # a module exists only if torch was imported
    if torch is None or not isinstance(module, torch.nn.Module):
        raise TypeError(f"from_torch: module is {type(module).__name__}, expected a torch.nn.Module")
    from sparsenet.export.torch_layers import PadWithBackground

    state = {}
    for path, part in module.named_modules(remove_duplicate=False):
        if isinstance(part, PadWithBackground):  # follows from the weights
            continue
        own = {**dict(part.named_parameters(recurse=False)), **dict(part.named_buffers(recurse=False))}
        own.pop("num_batches_tracked", None)  # of batch norm, which counts batches only for momentum=None
        for name, tensor in own.items():
            state[f"{path}.{name}" if path else name] = _converted(path, part, name, _array(tensor))
    return state


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A copy as a NumPy array, which has no bfloat16."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy().copy()


def _converted(path: str, part: torch.nn.Module, name: str, array: np.ndarray) -> np.ndarray:
    from torch import nn

    if array.ndim <= 1:
        return array
    spconv = sys.modules.get("spconv.pytorch.conv")
    if name == "weight":
        if spconv is not None and isinstance(part, spconv.SparseConvolution):
            if array.shape[0] != part.out_channels or array.shape[-1] != part.in_channels:
                raise ValueError(f"from_torch: {path or 'the module'}: the weight has shape {array.shape}, expected "
                                 f"({part.out_channels}, *size, {part.in_channels}): spconv's default layout")
            return weight_from_spconv(array, part.stride)
        if isinstance(part, nn.modules.conv._ConvTransposeNd):
            return weight_from_transposed(array, part.groups)
        if isinstance(part, nn.modules.conv._ConvNd):
            return weight_from_torch(array)
        if isinstance(part, nn.Linear):
            return np.ascontiguousarray(array.T)
    raise ValueError(f"from_torch: {path or 'the module'} ({type(part).__name__}): the layout of its {name} "
                     f"{array.shape} is not known: convert it by hand")
