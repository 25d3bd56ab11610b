"""Layers, networks of layers, and the initialisation of their weights."""

from sparsenet.autograd import Parameter
from sparsenet.nn import init
from sparsenet.nn.activation_layers import ELU, GELU, PReLU, Sigmoid, SiLU, Softmax, Tanh
from sparsenet.nn.activations import Activation
from sparsenet.nn.architectures import resnet, s3dcnn, unet
from sparsenet.nn.checkpoint import Checkpoint
from sparsenet.nn.cosine_linear import CosineLinear
from sparsenet.nn.dropout import Dropout
from sparsenet.nn.images import DepthImages, ImagePool
from sparsenet.nn.inverse import InverseConv
from sparsenet.nn.layers import GlobalPool, Linear, SparseConv, SparseMaxPool, SubmanifoldConv, ToDense
from sparsenet.nn.leaky_relu import LeakyReLU, ReLU
from sparsenet.nn.module import Module
from sparsenet.nn.network import SparseNetwork
from sparsenet.nn.norms import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from sparsenet.nn.pooling import SparseAvgPool, SparseSumPool, Upsample
from sparsenet.nn.residual import Residual, Skip
from sparsenet.nn.sequential import Sequential
from sparsenet.nn.transposed import TransposedConv

__all__ = [
    "Activation",
    "BatchNorm",
    "Checkpoint",
    "CosineLinear",
    "DepthImages",
    "Dropout",
    "ELU",
    "GELU",
    "GlobalPool",
    "GroupNorm",
    "ImagePool",
    "InstanceNorm",
    "InverseConv",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Module",
    "PReLU",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "SparseAvgPool",
    "Skip",
    "SparseConv",
    "SparseMaxPool",
    "SparseNetwork",
    "SparseSumPool",
    "SubmanifoldConv",
    "Tanh",
    "ToDense",
    "TransposedConv",
    "Upsample",
    "init",
    "resnet",
    "s3dcnn",
    "unet",
]
