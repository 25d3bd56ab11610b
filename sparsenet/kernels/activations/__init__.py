"""Activations and their gradients, of features and of their background at once.

    cpu.py             leaky ReLU
    exponentials.py    ELU, GELU, SiLU, tanh, sigmoid, element by element
    prelu.py           leaky ReLU with slopes that are learned
    softmax.py         over the channels of a row
    cuda.py            all of it on a GPU, with the .cu files
"""

from sparsenet.kernels.activations.contract import ELU, GELU, SIGMOID, SILU, TANH

__all__ = ["ELU", "GELU", "SIGMOID", "SILU", "TANH"]
