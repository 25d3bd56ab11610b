"""Activations, of rows and of their background at once."""

from __future__ import annotations

from math import erfc, pi

import numpy as np

from sparsenet.kernels.activations.contract import ELU, GELU, SIGMOID, SILU, TANH
from sparsenet.kernels.table import formula_of


@formula_of("leaky_relu_forward")
def leaky_relu_forward(x, slope, background):
    """x if x > 0, else slope * x; with a background, both."""
    out = np.where(x > 0, x, x * x.dtype.type(slope))
    return out if background is None else (out, leaky_relu_forward(background, slope, None))


@formula_of("leaky_relu_backward")
def leaky_relu_backward(reference, gradient, slope, background, background_gradient):
    """gradient if reference > 0, else slope * gradient; with a background and its gradient, both."""
    out = np.where(reference > 0, gradient, gradient * gradient.dtype.type(slope))
    return out if background is None else (out, leaky_relu_backward(background, background_gradient, slope, None, None))


@formula_of("activation_forward")
def activation_forward(x, kind, alpha, background):
    """f(x), in float64 and rounded once; with a background, both."""
    v = x.astype(np.float64)
    out = {ELU: lambda: np.where(v > 0, v, alpha * np.expm1(v)),
           GELU: lambda: np.where(v == -np.inf, 0, v * normal(v)),
           SILU: lambda: np.where(v == -np.inf, 0, v * logistic(v)),
           TANH: lambda: np.tanh(v),
           SIGMOID: lambda: logistic(v)}[kind]().astype(x.dtype)
    return out if background is None else (out, activation_forward(background, kind, alpha, None))


@formula_of("activation_backward")
def activation_backward(kept, gradient, kind, alpha, background, background_gradient):
    """gradient * f', from the input of GELU and SiLU, from the output of the others; with a background, both."""
    v = kept.astype(np.float64)
    x = np.clip(v, -1e3, 1e3)  # no infinity times 0
    slope = {ELU: lambda: np.where(v > 0, 1, v + alpha),
             GELU: lambda: normal(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * pi),
             SILU: lambda: logistic(x) * (1 + x * logistic(-x)),
             TANH: lambda: 1 - v * v,
             SIGMOID: lambda: v * (1 - v)}[kind]()
    out = (gradient * slope).astype(gradient.dtype)
    return out if background is None else (
        out, activation_backward(background, background_gradient, kind, alpha, None, None))


def logistic(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)"""
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def normal(x: np.ndarray) -> np.ndarray:
    """P(X <= x), X standard normal: erfc(-x / sqrt 2) / 2."""
    return np.reshape([erfc(-v) / 2 for v in np.ravel(x / np.sqrt(2)).tolist()], x.shape)


@formula_of("prelu_forward")
def prelu_forward(x, slope, background):
    """x if x > 0, else the slope of its channel times x; with a background, both."""
    out = np.where(x > 0, x, slope * x)
    return out if background is None else (out, prelu_forward(background, slope, None))


@formula_of("prelu_backward")
def prelu_backward(x, gradient, slope, background, background_gradient):
    """Gradients of x (N, C), background (G, C) and slope (S,), the last summed in float64 and rounded once."""
    def through(x, gradient):
        by_slope = np.where(x > 0, 0, x.astype(np.float64) * gradient)
        return np.where(x > 0, gradient, slope * gradient), by_slope.sum(axis=0 if len(slope) == x.shape[1] else None)

    out, total = through(x, gradient)
    below, more = (None, 0) if background is None else through(background, background_gradient)
    return out, below, np.reshape(total + more, slope.shape).astype(slope.dtype)


@formula_of("softmax_forward")
def softmax_forward(x, background):
    """e^x / its sum over the row, in float64 and rounded once; with a background, both."""
    e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True, initial=-np.inf))
    out = (e / e.sum(axis=1, keepdims=True)).astype(x.dtype)
    return out if background is None else (out, softmax_forward(background, None))


@formula_of("softmax_backward")
def softmax_backward(y, gradient, background, background_gradient):
    """y * (gradient - the sum over the row of y * gradient); with a background, both."""
    out = y * (gradient - (y * gradient).sum(axis=1, keepdims=True))
    return out if background is None else (out, softmax_backward(background, background_gradient, None, None))
