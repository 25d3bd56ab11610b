"""Leaky ReLU (Maas et al. 2013), on sites and background alike."""

from __future__ import annotations

from sparsenet.ops.activations import Activation, X, mapped


def leaky_relu(x: X, slope: float = 0.01) -> X:
    """x if x > 0, else slope * x; the gradient at 0 is slope, as in PyTorch.

    x : Tensor of any shape, or SparseTensor, whose background is mapped like any row

    Raises
    ------
    TypeError : x is neither, or its elements are not floats.
    """
    # With slope >= 0 the output has the sign of the input; the next layer saves it too, so it costs no memory.
    return mapped(Activation("LeakyReLU", "leaky_relu", slope >= 0, float(slope)), x)
