"""sparsenet: sparse 3D convolutional networks, exact, deterministic and open to inspection.

    import sparsenet as sn

Heavy libraries (Numba, h5py, matplotlib, CuPy) are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

from sparsenet import nn, ops
from sparsenet.anomaly import detect_anomaly
from sparsenet.autograd import Function, Tensor, no_grad
from sparsenet.backend import get_backend, set_backend
from sparsenet.gradcheck import gradcheck
from sparsenet.kernels import (
    get_float32_matmul_precision,
    get_num_threads,
    set_float32_matmul_precision,
    set_num_threads,
    set_tile_table,
)
from sparsenet.nn import SparseNetwork, resnet, s3dcnn, unet
from sparsenet.ops.elementwise import maximum, minimum, where
from sparsenet.ops.join import join
from sparsenet.ops.shaping import concatenate, stack
from sparsenet.sparse import SparseTensor

__version__ = "0.2.0"

# Imported on first use, because they import h5py or matplotlib.
_LATER = {"SparseDataset": "data", "SparseBatch": "data", "Off3DPicture": "shapes", "classify": "models",
          "load_pretrained": "models"}
_MODULES = ("data", "export", "inspect", "models", "optim", "retrieval", "segmentation", "shapes", "training")

__all__ = [
    "Function",
    "Off3DPicture",
    "SparseBatch",
    "SparseDataset",
    "SparseNetwork",
    "SparseTensor",
    "Tensor",
    "__version__",
    "classify",
    "concatenate",
    "detect_anomaly",
    "get_backend",
    "get_float32_matmul_precision",
    "get_num_threads",
    "gradcheck",
    "join",
    "load_pretrained",
    "maximum",
    "minimum",
    "nn",
    "no_grad",
    "ops",
    "resnet",
    "s3dcnn",
    "set_backend",
    "set_float32_matmul_precision",
    "set_num_threads",
    "set_tile_table",
    "stack",
    "unet",
    "where",
    *_MODULES,
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"sparsenet.{name}")
    if name in _LATER:
        return getattr(importlib.import_module(f"sparsenet.{_LATER[name]}"), name)
    raise AttributeError(f"module 'sparsenet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
