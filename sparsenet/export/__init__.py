"""Networks and weights for other frameworks: ONNX, PyTorch, spconv."""

from sparsenet.export.dense import dense_equivalent
from sparsenet.export.onnx_file import onnx

__all__ = ["dense_equivalent", "onnx"]
