"""Layers, networks of layers, and the initialisation of their weights."""

from sparsenet.autograd import Parameter
from sparsenet.nn import init
from sparsenet.nn.activations import Activation
from sparsenet.nn.architectures import resnet, s3dcnn, unet
from sparsenet.nn.inverse import InverseConv
from sparsenet.nn.layers import (
    CosineLinear,
    Dropout,
    GlobalPool,
    LeakyReLU,
    Linear,
    ReLU,
    SparseConv,
    SparseMaxPool,
    SubmanifoldConv,
    ToDense,
)
from sparsenet.nn.module import Module
from sparsenet.nn.network import SparseNetwork
from sparsenet.nn.norms import BatchNorm
from sparsenet.nn.residual import Residual, Skip
from sparsenet.nn.sequential import Sequential

__all__ = [
    "Activation",
    "BatchNorm",
    "CosineLinear",
    "Dropout",
    "GlobalPool",
    "InverseConv",
    "LeakyReLU",
    "Linear",
    "Module",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "Skip",
    "SparseConv",
    "SparseMaxPool",
    "SparseNetwork",
    "SubmanifoldConv",
    "ToDense",
    "init",
    "resnet",
    "s3dcnn",
    "unet",
]
