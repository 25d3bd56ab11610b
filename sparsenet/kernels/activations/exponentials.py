"""ELU, GELU, SiLU, tanh, sigmoid, element by element: out = f(x), and gradient * f'(x) from x or from f(x).

    kind       f(x)                                   f'(x)                                   from
    ELU        x if x > 0, else alpha (e^x - 1)       1 if y > 0, else y + alpha              y
    GELU       x P(X <= x) = max(x, 0) - t q(t)       q(t) - t b(t), less than 1 if x > 0     x
    SiLU       x s,  s = 1 / (1 + e^-x)               s + s (1 - s) x                         x
    TANH       -m / (m + 2),  m = e^-2t - 1           (1 - y) (1 + y)                         y
    SIGMOID    s                                      y (1 - y)                               y

    t = |x|     X standard normal, b its density, q(t) = P(X > t) = e^(-t^2 / 2) r(t)

Exponentials are of numbers up to 0, so none overflows.  r is smooth, 1/2 at 0 and falling: a quotient of polynomials
with positive coefficients, whose relative error on 0 <= t <= 14 is at most 1.3e-8 (a minimax fit).  float32 is computed
16 numbers at a time, float64 number by number by the C library, whose functions LLVM does not vectorize.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from sparsenet.kernels.activations.contract import ACTIVATION_BACKWARD as BACKWARD
from sparsenet.kernels.activations.contract import ACTIVATION_FORWARD as FORWARD
from sparsenet.kernels.activations.contract import ELU, GELU, SIGMOID, SILU, TANH
from sparsenet.kernels.cpu.exponential import exponential, exponential_minus_one
from sparsenet.kernels.cpu.lanes import absolute, fma, load, load_some, maximum, select, store, store_some
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows

_BLOCK = 1 << 16  # elements
_WIDTH = 16  # side by side
_ZERO, _HALF, _ONE, _TWO = (np.float32(number) for number in (0, 0.5, 1, 2))
_FAR = np.float32(100)  # beyond, e^-t is 0 in float32, and so that its product with t is 0 too, t may not be infinite
_P4, _P3, _P2, _P1, _P0 = (np.float32(number) for number in (
    0.00403698627, 0.040098004, 0.181645691, 0.4361462, 0.5))  # r(t) = P(t) / Q(t)
_Q5, _Q4, _Q3, _Q2, _Q1 = (np.float32(number) for number in (
    0.0101190852, 0.100517996, 0.4652749, 1.19589579, 1.67017734))
_DENSITY = np.float32(0.3989422804014327)  # b(0) = 1 / sqrt(2 pi)
_FAR_DOUBLE, _DENSITY_DOUBLE, _ROOT_OF_HALF = 800.0, 0.3989422804014327, math.sqrt(0.5)


@FORWARD.implementation("cpu")
def _forward_cpu(x, kind, alpha, background):
    """(N, C); with a background of any shape (G, D), both."""
    out = np.empty(x.shape, x.dtype)
    source, target = x.reshape(-1), out.reshape(-1)
    loop, settings = _FORWARD[kind], (x.dtype.type(alpha),)
    if x.dtype == np.float64:
        loop, settings = _forward_double, (kind, *settings)
    run_rows(lambda start, stop: loop(source[start:stop], *settings, target[start:stop]), x.size, _BLOCK)
    return out if background is None else (out, _forward_cpu(background, kind, alpha, None))


@BACKWARD.implementation("cpu")
def _backward_cpu(kept, gradient, kind, alpha, background, background_gradient):
    """(N, C): the gradient times f', from `kept`, the input or the output as the kind needs it; with a background, kept
    likewise, and its gradient, (N, C) and (G, D)."""
    out = np.empty(gradient.shape, gradient.dtype)
    known, source, target = kept.reshape(-1), gradient.reshape(-1), out.reshape(-1)
    loop, settings = _BACKWARD[kind], (gradient.dtype.type(alpha),)
    if gradient.dtype == np.float64:
        loop, settings = _backward_double, (kind, *settings)
    run_rows(lambda start, stop: loop(known[start:stop], source[start:stop], *settings, target[start:stop]),
             gradient.size, _BLOCK)
    if background is None:
        return out
    return out, _backward_cpu(background, background_gradient, kind, alpha, None, None)


# ---- float32: lanes; a loop for each kind, so that only those in use are compiled ------------------------------------


@numba.njit(nogil=True)
def _read(x, i):
    """_WIDTH numbers from i on; zeros beyond the end."""
    return load(x, i, _WIDTH) if i + _WIDTH <= x.size else load_some(x, i, x.size - i, _ZERO, _WIDTH)


@numba.njit(nogil=True)
def _write(out, i, values):
    """As many of the values as there is room for from i on."""
    if i + _WIDTH <= out.size:
        store(out, i, values)
    else:
        store_some(out, i, out.size - i, values)


@compiled
def _elu(x, alpha, out):
    for i in range(0, x.size, _WIDTH):
        v = _read(x, i)
        _write(out, i, select(v > _ZERO, v, exponential_minus_one(v) * alpha))


@compiled
def _elu_backward(y, gradient, alpha, out):
    for i in range(0, y.size, _WIDTH):
        v = _read(y, i)
        _write(out, i, _read(gradient, i) * select(v > _ZERO, _ONE, v + alpha))


@compiled
def _gelu(x, alpha, out):
    for i in range(0, x.size, _WIDTH):
        v = _read(x, i)
        t = _limited(absolute(v))
        tail = t * _tail_over_bell(t) * _bell(t)  # in this order nothing is subnormal before the result is
        _write(out, i, maximum(_ZERO, v) - tail)


@compiled
def _gelu_backward(x, gradient, alpha, out):
    for i in range(0, x.size, _WIDTH):
        v = _read(x, i)
        t = _limited(absolute(v))
        below = _bell(t) * (_tail_over_bell(t) - t * _DENSITY)
        _write(out, i, _read(gradient, i) * select(v > _ZERO, _ONE - below, below))


@compiled
def _silu(x, alpha, out):
    for i in range(0, x.size, _WIDTH):
        v = _read(x, i)
        t = _limited(absolute(v))
        e = exponential(_ZERO - t)
        _write(out, i, select(v < _ZERO, _ZERO - t * e, v) / (e + _ONE))


@compiled
def _silu_backward(x, gradient, alpha, out):
    for i in range(0, x.size, _WIDTH):
        v = _read(x, i)
        t = _limited(absolute(v))
        e = exponential(_ZERO - t)
        near = _ONE / (e + _ONE)
        far = e * near  # s is one of these two, 1 - s the other
        bend = near * far * t
        _write(out, i, _read(gradient, i) * select(v < _ZERO, far - bend, near + bend))


@compiled
def _tanh(x, alpha, out):
    for i in range(0, x.size, _WIDTH):
        v = _read(x, i)
        m = exponential_minus_one(absolute(v) * -_TWO)
        _write(out, i, select(v < _ZERO, m, _ZERO - m) / (m + _TWO))


@compiled
def _tanh_backward(y, gradient, alpha, out):
    for i in range(0, y.size, _WIDTH):
        v = _read(y, i)
        _write(out, i, _read(gradient, i) * ((_ONE - v) * (v + _ONE)))


@compiled
def _sigmoid(x, alpha, out):
    for i in range(0, x.size, _WIDTH):
        v = _read(x, i)
        e = exponential(_ZERO - absolute(v))
        _write(out, i, select(v < _ZERO, e, _ONE) / (e + _ONE))


@compiled
def _sigmoid_backward(y, gradient, alpha, out):
    for i in range(0, y.size, _WIDTH):
        v = _read(y, i)
        _write(out, i, _read(gradient, i) * (v * (_ONE - v)))


_FORWARD = {ELU: _elu, GELU: _gelu, SILU: _silu, TANH: _tanh, SIGMOID: _sigmoid}
_BACKWARD = {ELU: _elu_backward, GELU: _gelu_backward, SILU: _silu_backward, TANH: _tanh_backward,
             SIGMOID: _sigmoid_backward}


@numba.njit(nogil=True)
def _limited(t):
    """t, at most _FAR; NaN stays."""
    return select(t > _FAR, _FAR, t)


@numba.njit(nogil=True)
def _bell(t):
    """exp(-t^2 / 2): the square is large, and its rounding would be many units in the last place of the result."""
    square = t * t
    rounded = fma(t, t, _ZERO - square)
    e = exponential(square * -_HALF)
    return fma(e, rounded * -_HALF, e)


@numba.njit(nogil=True)
def _tail_over_bell(t):
    """r(t)"""
    p = fma(_P4, t, _P3)
    p = fma(p, t, _P2)
    p = fma(p, t, _P1)
    p = fma(p, t, _P0)
    q = fma(_Q5, t, _Q4)
    q = fma(q, t, _Q3)
    q = fma(q, t, _Q2)
    q = fma(q, t, _Q1)
    q = fma(q, t, _ONE)
    return p / q


# ---- float64: number by number ---------------------------------------------------------------------------------------


@compiled
def _forward_double(x, kind, alpha, out):
    for i in range(x.size):
        value = x[i]
        t = abs(value)
        t = _FAR_DOUBLE if t > _FAR_DOUBLE else t
        if kind == ELU:
            out[i] = value if value > 0 else alpha * math.expm1(value)
        elif kind == GELU:
            out[i] = (0.0 if value < 0 else value) - t * (0.5 * math.erfc(t * _ROOT_OF_HALF))
        elif kind == TANH:
            out[i] = math.tanh(value)
        else:
            e = math.exp(-t)
            top = (-t * e if value < 0 else value) if kind == SILU else e if value < 0 else 1.0
            out[i] = top / (1 + e)


@compiled
def _backward_double(kept, gradient, kind, alpha, out):
    for i in range(gradient.size):
        value = kept[i]
        t = abs(value)
        t = _FAR_DOUBLE if t > _FAR_DOUBLE else t
        if kind == ELU:
            slope = 1.0 if value > 0 else value + alpha
        elif kind == GELU:
            below = 0.5 * math.erfc(t * _ROOT_OF_HALF) - t * _DENSITY_DOUBLE * math.exp(-0.5 * t * t)
            slope = 1 - below if value > 0 else below
        elif kind == SILU:
            e = math.exp(-t)
            near = 1 / (1 + e)
            far = e * near
            slope = far - near * far * t if value < 0 else near + near * far * t
        elif kind == TANH:
            slope = (1 - value) * (1 + value)
        else:
            slope = value * (1 - value)
        out[i] = gradient[i] * slope
