"""Networks and weights for other frameworks: ONNX, PyTorch, spconv."""

from sparsenet.export.dense import dense_equivalent
from sparsenet.export.onnx_file import onnx
from sparsenet.export.pytorch import from_torch, to_torch
from sparsenet.export.weights import (
    weight_from_spconv,
    weight_from_torch,
    weight_from_transposed,
    weight_to_spconv,
    weight_to_torch,
    weight_to_transposed,
)

__all__ = ["dense_equivalent", "from_torch", "onnx", "to_torch", "weight_from_spconv", "weight_from_torch",
           "weight_from_transposed", "weight_to_spconv", "weight_to_torch", "weight_to_transposed"]
