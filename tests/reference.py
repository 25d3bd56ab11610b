"""The plain dense operations that every sparse one is measured against.

NumPy only, nothing from the package.  A grid is an array (B, C, *spatial) with 1 to 4 spatial
axes; an operation is a loop over the kernel offsets, row-major, last axis fastest, and each step
works on a shifted slice of the grid.  Weights are (K, C_in, C_out).  Each `*_backward` takes the
gradient of the output and returns the gradients of what went in, written out by hand.

    out[m] = sum_k W[k]^T x[m*stride - padding + k*dilation] + b
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

SLAB = 1 << 18  # numbers of an output that a convolution computes at a time: new memory is slower than the sums

# The one table of tolerances: largest difference, relative to the largest number expected.
TOLERANCE = {np.dtype(np.float16): 2e-3, np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-10}


def relative_error(actual, expected) -> float:
    """Largest absolute difference over the largest absolute number expected; 0 for empty arrays."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    if not actual.size:
        return 0.0
    largest = float(np.abs(expected).max())
    return float(np.abs(actual - expected).max()) / (largest or 1.0)


def assert_close(actual, expected, what: str = "result") -> None:
    """Equal within the tolerance of the dtype of `actual`, which may be a Tensor."""
    actual = actual.numpy() if hasattr(actual, "numpy") else np.asarray(actual)
    error = relative_error(actual, expected)
    assert error <= TOLERANCE[actual.dtype], f"{what}: relative error {error:.3g} in {actual.dtype}"


def per_axis(value: int | tuple[int, ...], dimension: int) -> tuple[int, ...]:
    """One number an axis: an int is repeated."""
    return (value,) * dimension if isinstance(value, int) else tuple(value)


def output_size(spatial_size, size, stride=1, padding=0, dilation=1) -> tuple[int, ...]:
    """Cells along each axis of the output: floor((n + 2p - d(k-1) - 1) / s) + 1."""
    dimension = len(spatial_size)
    arguments = (per_axis(v, dimension) for v in (size, stride, padding, dilation))
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                 for n, k, s, p, d in zip(spatial_size, *arguments, strict=True))


def offset_slices(spatial_size, size, stride=1, padding=0, dilation=1) -> Iterator[tuple[slice, ...]]:
    """For each kernel offset, the cells of the padded grid that it reads: one per output cell."""
    dimension = len(spatial_size)
    out = output_size(spatial_size, size, stride, padding, dilation)
    size, stride, dilation = (per_axis(v, dimension) for v in (size, stride, dilation))
    for offset in itertools.product(*map(range, size)):
        yield tuple(slice(k * d, k * d + (m - 1) * s + 1, s)
                    for k, d, m, s in zip(offset, dilation, out, stride, strict=True))


def interior(spatial_size, padding) -> tuple[slice, ...]:
    """Where the grid lies within the padded grid."""
    padding = per_axis(padding, len(spatial_size))
    return tuple(slice(p, p + n) for p, n in zip(padding, spatial_size, strict=True))


def pad(x, padding, background=None) -> np.ndarray:
    """The grid with `padding` cells on each side that hold the background (C,), or zeros."""
    spatial_size = x.shape[2:]
    padding = per_axis(padding, len(spatial_size))
    if not any(padding):
        return x
    shape = x.shape[:2] + tuple(n + 2 * p for n, p in zip(spatial_size, padding, strict=True))
    padded = np.zeros(shape, x.dtype)
    if background is not None:
        padded += np.reshape(background, (1, -1) + (1,) * len(spatial_size))
    padded[(..., *interior(spatial_size, padding))] = x
    return padded


def convolution(x, weight, bias, size, stride=1, padding=0, dilation=1, background=None) -> np.ndarray:
    """Dense convolution (cross-correlation); padding cells hold `background`."""
    out_size = output_size(x.shape[2:], size, stride, padding, dilation)
    y = np.zeros((x.shape[0], weight.shape[2], *out_size), x.dtype)
    if bias is not None:
        y += bias.reshape((1, -1) + (1,) * len(out_size))
    padded = pad(x, padding, background)
    height = max(1, SLAB // max(y[0, :, :1].size, 1))
    for start in range(0, out_size[0], height):
        slab = slice(start, start + height)
        for k, cells in enumerate(offset_slices(x.shape[2:], size, stride, padding, dilation)):
            for b in range(x.shape[0]):
                rows = padded[(b, slice(None), *cells)][:, slab]
                product = weight[k].T @ rows.reshape(x.shape[1], -1)
                y[b, :, slab] += product.reshape(len(product), *rows.shape[1:])
    return y


def convolution_backward(gradient, x, weight, size, stride=1, padding=0, dilation=1, background=None):
    """Gradients of x, weight, bias, and of the background that the padding cells hold."""
    padded = pad(x, padding, background)
    padded_gradient = np.zeros(padded.shape, x.dtype)
    weight_gradient = np.zeros_like(weight)
    for k, cells in enumerate(offset_slices(x.shape[2:], size, stride, padding, dilation)):
        for b in range(x.shape[0]):
            window = (b, slice(None), *cells)
            rows = padded[window].reshape(x.shape[1], -1)
            flat = gradient[b].reshape(gradient.shape[1], -1)
            weight_gradient[k] += rows @ flat.T
            padded_gradient[window] += (weight[k] @ flat).reshape(padded_gradient[window].shape)
    x_gradient = padded_gradient[(..., *interior(x.shape[2:], padding))]
    spatial_axes = tuple(range(2, x.ndim))
    bias_gradient = gradient.sum(axis=(0, *spatial_axes))
    if not any(per_axis(padding, x.ndim - 2)):
        return x_gradient, weight_gradient, bias_gradient, np.zeros(x.shape[1], x.dtype)
    x_gradient = x_gradient.copy()
    padded_gradient[(..., *interior(x.shape[2:], padding))] = 0
    return x_gradient, weight_gradient, bias_gradient, padded_gradient.sum(axis=(0, *spatial_axes))


def grouped_convolution(x, weight, bias, groups, *filter_, background=None) -> np.ndarray:
    """Each group of output channels from its own input channels; weight (K, C_in / groups, C_out)."""
    level = np.zeros(x.shape[1]) if background is None else background
    return np.concatenate([convolution(*part[:2], None, *filter_, background=part[2])
                           for part in _in_groups(groups, (x, 1), (weight, 2), (level, 0))], axis=1) + (
        0 if bias is None else bias.reshape((1, -1) + (1,) * (x.ndim - 2)))


def transposed_convolution(x, weight, bias, groups, size, stride=1, padding=0, dilation=1,
                           output_padding=0) -> np.ndarray:
    """Dense transposed convolution in float64, a loop over the offsets of each group: the gradient of the convolution
    that leads from its output to x."""
    dimension = x.ndim - 2
    axes = [per_axis(value, dimension) for value in (size, stride, padding, dilation, output_padding)]
    sides = [(n - 1) * s - 2 * p + d * (k - 1) + 1 + more
             for n, k, s, p, d, more in zip(x.shape[2:], *axes, strict=True)]
    parts = []
    for rows, columns in zip(np.split(x.astype(np.float64), groups, axis=1), np.split(weight, groups, axis=2),
                             strict=True):
        zeros = np.zeros((len(x), columns.shape[2], *sides))
        parts.append(convolution_backward(rows, zeros, columns.transpose(0, 2, 1).astype(np.float64), size, stride,
                                          padding, dilation)[0])
    out = np.concatenate(parts, axis=1)
    return out if bias is None else out + bias.reshape(-1, *[1] * dimension)


def grouped_convolution_backward(gradient, x, weight, groups, *filter_, background=None):
    """Gradients of x, weight, bias, and of the background that the padding cells hold."""
    level = np.zeros(x.shape[1]) if background is None else background
    parts = [convolution_backward(*part[:3], *filter_, background=part[3])
             for part in _in_groups(groups, (gradient, 1), (x, 1), (weight, 2), (level, 0))]
    return tuple(np.concatenate(own, axis=axis) for own, axis in zip(zip(*parts, strict=True), (1, 2, 0, 0),
                                                                     strict=True))


def _in_groups(groups, *arrays) -> Iterator[tuple]:
    """(array, axis) each: cut along the axis, group by group."""
    return zip(*(np.split(array, groups, axis=axis) for array, axis in arrays), strict=True)


def max_pool(x, size, stride=None, padding=0) -> tuple[np.ndarray, np.ndarray]:
    """Dense max-pooling: values, and the offset (int16) of each maximum; a tie goes to the first.  Padding never
    wins."""
    stride = size if stride is None else stride
    inside = pad(np.ones_like(x[:, :1]), padding)
    padded, y, chosen = np.where(inside > 0, pad(x, padding), -np.inf), None, None
    for k, cells in enumerate(offset_slices(x.shape[2:], size, stride, padding)):
        window = padded[(..., *cells)]
        if y is None:
            y, chosen, real = window.copy(), np.zeros(window.shape, np.int16), inside[(..., *cells)] > 0
            continue
        larger = (window > y) | (~real & (inside[(..., *cells)] > 0))  # the first real cell beats what is no cell
        real = real | (inside[(..., *cells)] > 0)
        np.copyto(y, window, where=larger)
        np.copyto(chosen, np.int16(k), where=larger)
    return y, chosen


def max_pool_backward(gradient, chosen, spatial_size, size, stride=None, padding=0) -> np.ndarray:
    """Gradient of x: each output's gradient goes to the cell that was chosen."""
    stride = size if stride is None else stride
    x_gradient = pad(np.zeros(gradient.shape[:2] + tuple(spatial_size), gradient.dtype), padding)
    for k, cells in enumerate(offset_slices(spatial_size, size, stride, padding)):
        window = x_gradient[(..., *cells)]
        np.add(window, gradient, out=window, where=chosen == k)
    return x_gradient[(..., *interior(spatial_size, padding))]


def sum_pool(x, size, stride=None, padding=0) -> np.ndarray:
    """Dense sum pooling; cells of the padding hold 0."""
    padded = pad(x, padding)
    return sum(padded[(..., *cells)] for cells in offset_slices(x.shape[2:], size, size if stride is None else stride,
                                                                padding))


def sum_pool_backward(gradient, spatial_size, size, stride=None, padding=0) -> np.ndarray:
    """Gradient of x: each output's gradient goes to all cells of its window."""
    x_gradient = pad(np.zeros(gradient.shape[:2] + tuple(spatial_size), gradient.dtype), padding)
    for cells in offset_slices(spatial_size, size, size if stride is None else stride, padding):
        x_gradient[(..., *cells)] += gradient
    return x_gradient[(..., *interior(spatial_size, padding))]


def average_pool(x, size, stride=None, padding=0) -> np.ndarray:
    """Dense average pooling, over the cells within the grid: PyTorch's with count_include_pad=False."""
    return sum_pool(x, size, stride, padding) / sum_pool(np.ones_like(x[:1, :1]), size, stride, padding)


def average_pool_backward(gradient, spatial_size, size, stride=None, padding=0) -> np.ndarray:
    """Gradient of x."""
    cells = sum_pool(np.ones((1, 1, *spatial_size), gradient.dtype), size, stride, padding)
    return sum_pool_backward(gradient / cells, spatial_size, size, stride, padding)


def upsample(x, scale, spatial_size=None, background=None) -> np.ndarray:
    """Nearest upsampling; with a spatial size, what lies beyond is cut off, and the rest holds the background."""
    scale = per_axis(scale, x.ndim - 2)
    copies = x
    for axis, times in enumerate(scale, start=2):
        copies = np.repeat(copies, times, axis=axis)
    spatial_size = copies.shape[2:] if spatial_size is None else per_axis(spatial_size, x.ndim - 2)
    y = np.zeros((*x.shape[:2], *spatial_size), x.dtype)
    if background is not None:
        y += np.reshape(background, (-1, x.shape[1]) + (1,) * len(spatial_size))
    both = tuple(slice(min(sides)) for sides in zip(spatial_size, copies.shape[2:], strict=True))
    y[(..., *both)] = copies[(..., *both)]
    return y


def upsample_backward(gradient, spatial_size, scale) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of x, and of the background (C,) in the cells that no copy reaches."""
    scale = per_axis(scale, gradient.ndim - 2)
    whole = tuple(side * times for side, times in zip(spatial_size, scale, strict=True))
    both = tuple(slice(min(sides)) for sides in zip(gradient.shape[2:], whole, strict=True))
    copies, rest = np.zeros((*gradient.shape[:2], *whole), gradient.dtype), gradient.copy()
    copies[(..., *both)] = gradient[(..., *both)]
    rest[(..., *both)] = 0
    for axis, (side, times) in enumerate(zip(spatial_size, scale, strict=True), start=2):
        copies = copies.reshape(*copies.shape[:axis], side, times, *copies.shape[axis + 1:]).sum(axis=axis + 1)
    return copies, rest.sum(axis=(0, *range(2, rest.ndim)))


def leaky_relu(x, slope) -> np.ndarray:
    """x where positive, slope * x elsewhere."""
    y = x.dtype.type(slope) * x
    np.copyto(y, x, where=x > 0)
    return y


def leaky_relu_backward(gradient, x, slope) -> np.ndarray:
    """Gradient of x; at zero the slope holds."""
    x_gradient = x.dtype.type(slope) * gradient
    np.copyto(x_gradient, gradient, where=x > 0)
    return x_gradient


def _sigmoid(x) -> float:
    return math.exp(x) / (1 + math.exp(x)) if x < 0 else 1 / (1 + math.exp(-x))


def _normal(x) -> float:
    """The probability of at most x under the standard normal distribution."""
    return math.erfc(-x / math.sqrt(2)) / 2


ACTIVATIONS = {  # of one number, and alpha, which only elu has: its value and its derivative
    "elu": (lambda x, alpha: x if x > 0 else alpha * math.expm1(x),
            lambda x, alpha: 1 if x > 0 else alpha * math.exp(x)),
    "gelu": (lambda x, _: x * _normal(x), lambda x, _: _normal(x) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)),
    "silu": (lambda x, _: x * _sigmoid(x), lambda x, _: _sigmoid(x) * (1 + x * _sigmoid(-x))),
    "tanh": (lambda x, _: math.tanh(x), lambda x, _: 1 / math.cosh(x) ** 2),
    "sigmoid": (lambda x, _: _sigmoid(x), lambda x, _: _sigmoid(x) * _sigmoid(-x)),
}


def activation(x, name, alpha=1.0) -> np.ndarray:
    """float64, number by number."""
    return np.array([ACTIVATIONS[name][0](v, alpha) for v in np.ravel(x).tolist()], np.float64).reshape(x.shape)


def activation_backward(gradient, x, name, alpha=1.0) -> np.ndarray:
    """Gradient of x."""
    slopes = [ACTIVATIONS[name][1](v, alpha) for v in np.ravel(x).tolist()]
    return gradient * np.array(slopes, np.float64).reshape(x.shape)


def prelu(x, weight) -> np.ndarray:
    """x where positive, elsewhere times the weight of its channel (C,), or the one of all (1,)."""
    return np.where(x > 0, x, x * weight.reshape((1, -1) + (1,) * (x.ndim - 2)))


def prelu_backward(gradient, x, weight):
    """Gradients of x and weight."""
    by_weight = np.where(x > 0, 0, x * gradient).sum(axis=(0, *range(2, x.ndim)))
    x_gradient = np.where(x > 0, gradient, gradient * weight.reshape((1, -1) + (1,) * (x.ndim - 2)))
    return x_gradient, by_weight if len(weight) == x.shape[1] else by_weight.sum(keepdims=True)


def softmax(x) -> np.ndarray:
    """Over the channels, axis 1."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(gradient, x) -> np.ndarray:
    """Gradient of x."""
    y = softmax(x)
    return y * (gradient - (y * gradient).sum(axis=1, keepdims=True))


def batch_norm(x, weight, bias, eps, counts=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalised grid, and mean and variance (C,) over all cells, or those where `counts` (B, 1, *spatial) is true."""
    axes = (0, *range(2, x.ndim))
    counts = np.ones_like(x[:, :1]) if counts is None else counts.astype(x.dtype)
    mean = (counts * x).sum(axis=axes, keepdims=True) / counts.sum()
    variance = (counts * (x - mean) ** 2).sum(axis=axes, keepdims=True) / counts.sum()
    shape = mean.shape
    y = (x - mean) / np.sqrt(variance + eps) * weight.reshape(shape) + bias.reshape(shape)
    return y, mean.reshape(-1), variance.reshape(-1)


def batch_norm_backward(gradient, x, weight, eps, counts=None):
    """Gradients of x, weight, bias, step by step backward through those lines."""
    axes = (0, *range(2, x.ndim))
    counts = np.ones_like(x[:, :1]) if counts is None else counts.astype(x.dtype)
    n = counts.sum()
    mean = (counts * x).sum(axis=axes, keepdims=True) / n
    variance = (counts * (x - mean) ** 2).sum(axis=axes, keepdims=True) / n
    deviation = np.sqrt(variance + eps)
    of_normalised = gradient * weight.reshape(mean.shape)
    of_variance = (of_normalised * (x - mean)).sum(axis=axes, keepdims=True) * -0.5 * deviation**-3
    of_mean = -of_normalised.sum(axis=axes, keepdims=True) / deviation
    of_mean = of_mean - of_variance * 2 * (counts * (x - mean)).sum(axis=axes, keepdims=True) / n
    of_x = of_normalised / deviation + counts * (of_variance * 2 * (x - mean) + of_mean) / n
    return of_x, (gradient * (x - mean) / deviation).sum(axis=axes), gradient.sum(axis=axes)


def group_norm(x, groups, weight, bias, eps, counts=None) -> np.ndarray:
    """Each group of neighbouring channels of each sample normalised by the mean and variance over its cells, or over
    those where `counts` (B, 1, *spatial) is true; over all if it is true nowhere in the sample."""
    y = np.empty_like(x)
    for part, _, mean, deviation in _groups(x, groups, eps, counts):
        y[part] = (x[part] - mean) / deviation
    shape = (-1,) + (1,) * (x.ndim - 2)
    return y * weight.reshape(shape) + bias.reshape(shape)


def _groups(x, groups, eps, counts) -> Iterator[tuple]:
    """The place of each group, how many times each of its cells counts, its mean and standard deviation."""
    width = x.shape[1] // groups
    for b, j in itertools.product(range(len(x)), range(groups)):
        part = b, slice(j * width, (j + 1) * width)
        count = np.ones(x[part].shape)
        if counts is not None and counts[b].any():
            count *= counts[b]
        mean = (count * x[part]).sum() / count.sum()
        yield part, count, mean, math.sqrt((count * (x[part] - mean) ** 2).sum() / count.sum() + eps)


def group_norm_backward(gradient, x, groups, weight, eps, counts=None):
    """Gradients of x, weight, bias, step by step backward through those lines."""
    shape, axes = (-1,) + (1,) * (x.ndim - 2), (0, *range(2, x.ndim))
    of_y, of_x, normalised = gradient * weight.reshape(shape), np.empty_like(x), np.empty_like(x)
    for part, count, mean, deviation in _groups(x, groups, eps, counts):
        distance, n = x[part] - mean, count.sum()
        normalised[part] = distance / deviation
        of_variance = (of_y[part] * distance).sum() * -0.5 * deviation**-3
        of_mean = -of_y[part].sum() / deviation - of_variance * 2 * (count * distance).sum() / n
        of_x[part] = of_y[part] / deviation + count * (of_variance * 2 * distance + of_mean) / n
    return of_x, (gradient * normalised).sum(axis=axes), gradient.sum(axis=axes)


def linear(x, weight, bias=None) -> np.ndarray:
    """Rows (B, C_in) times weight (C_in, C_out), plus bias."""
    return x @ weight if bias is None else x @ weight + bias


def linear_backward(gradient, x, weight):
    """Gradients of x, weight, bias."""
    return gradient @ weight.T, x.T @ gradient, gradient.sum(axis=0)


def global_pool(x, mode) -> np.ndarray:
    """(B, C): mean, max or sum over all cells of the grid."""
    return getattr(np, mode)(x.reshape(*x.shape[:2], -1), axis=2)


def global_pool_backward(gradient, x, mode) -> np.ndarray:
    """Gradient of x; the maximum's goes to its first cell."""
    flat = x.reshape(*x.shape[:2], -1)
    if mode == "max":
        result = np.zeros_like(flat)
        np.put_along_axis(result, flat.argmax(axis=2)[..., None], gradient[..., None], axis=2)
        return result.reshape(x.shape)
    share = gradient / flat.shape[2] if mode == "mean" else gradient
    return np.broadcast_to(share[..., None], flat.shape).reshape(x.shape).copy()


def softmax_cross_entropy(logits, labels) -> tuple[float, np.ndarray, int]:
    """Mean over the rows of -log(softmax(logits)[label]), its gradient, and how many rows are right."""
    total, gradient = 0.0, np.zeros(logits.shape)
    for i, (row, label) in enumerate(zip(logits, labels, strict=True)):
        shifted = row - row.max()
        log_total = math.log(math.fsum(np.exp(shifted)))
        total += log_total - shifted[label]
        gradient[i] = np.exp(shifted - log_total)
        gradient[i, label] -= 1
    return total / len(labels), gradient / len(labels), int((logits.argmax(axis=1) == labels).sum())


def triplet_loss(anchor, positive, negative, margin, distance) -> tuple[float, np.ndarray, int]:
    """Mean over the rows of max(0, margin + d(a, p) - d(a, n)), the gradients (3, T, C), and how many are above 0."""
    total, active, gradients = 0.0, 0, np.zeros((3, *anchor.shape))
    for t, (a, p, n) in enumerate(zip(anchor, positive, negative, strict=True)):
        near, *near_gradients = distance_of(a, p, distance)
        far, *far_gradients = distance_of(a, n, distance)
        if margin + near - far > 0:
            total += margin + near - far
            active += 1
            gradients[:, t] = near_gradients[0] - far_gradients[0], near_gradients[1], -far_gradients[1]
    return total / len(anchor), gradients / len(anchor), active


def distance_of(a, b, distance) -> tuple[float, np.ndarray, np.ndarray]:
    """The distance of two vectors by "cosine" (1 - cosine), "l2" or "squared_l2", and its gradients; these are 0 where
    l2 is 0, and for a zero vector under cosine, whose distance is 1."""
    if distance == "cosine":
        a_length, b_length = (math.hypot(*vector) for vector in (a, b))
        if not a_length or not b_length:
            return 1.0, np.zeros(len(a)), np.zeros(len(b))
        u, v = a / a_length, b / b_length
        cosine = math.fsum(u * v)
        return math.fsum((u - v) ** 2) / 2, (cosine * u - v) / a_length, (cosine * v - u) / b_length
    squared, difference = math.fsum((a - b) ** 2), a - b
    if distance == "squared_l2":
        return squared, 2 * difference, -2 * difference
    direction = difference / (math.sqrt(squared) or 1)
    return math.sqrt(squared), direction, -direction


# ---- between sites and grids -----------------------------------------------------------------


def to_grid(features, coordinates, spatial_size, batch_size, background=None) -> np.ndarray:
    """(B, C, *spatial): the background (zeros if None) everywhere, each site's row in its cell."""
    grid = np.zeros((batch_size, *spatial_size, features.shape[1]), features.dtype)
    if background is not None:
        grid += background
    grid[tuple(np.asarray(coordinates).T)] = features
    return np.ascontiguousarray(np.moveaxis(grid, -1, 1))


def from_grid(grid, coordinates) -> np.ndarray:
    """(N, C): the rows of the grid at the sites."""
    batch, *cell = np.asarray(coordinates).T
    return np.moveaxis(grid, 1, -1)[(batch, *cell)]


def background_gradient(grid_gradient, coordinates) -> np.ndarray:
    """(C,): the gradient of the vector that all cells but the sites hold."""
    rest = np.moveaxis(grid_gradient, 1, -1).copy()
    rest[tuple(np.asarray(coordinates).T)] = 0
    return rest.reshape(-1, rest.shape[-1]).sum(axis=0)


def occupancy(coordinates, spatial_size, batch_size) -> np.ndarray:
    """(B, *spatial) bool: which cells are active."""
    mask = np.zeros((batch_size, *spatial_size), bool)
    mask[tuple(np.asarray(coordinates).T)] = True
    return mask


def active_outputs(mask, size, stride=1, padding=0, dilation=1) -> np.ndarray:
    """(B, *out) bool: an output is active where at least one offset hits an active cell."""
    padded = pad(mask[:, None], padding)
    slices = offset_slices(mask.shape[1:], size, stride, padding, dilation)
    return np.logical_or.reduce([padded[(slice(None), 0, *cells)] for cells in slices])


def random_coordinates(rng, count, spatial_size, batch_size, empty=()) -> np.ndarray:
    """(count, 1+D) int32: distinct sites in random order, none in the samples named in `empty`."""
    samples = [b for b in range(batch_size) if b not in empty]
    cells = int(np.prod(spatial_size))
    chosen = rng.choice(len(samples) * cells, size=count, replace=False)
    batch = np.asarray(samples, np.int32)[chosen // cells]
    return np.column_stack([batch, *np.unravel_index(chosen % cells, spatial_size)]).astype(np.int32)


# ---- whole networks --------------------------------------------------------------------------


@dataclass
class Layer:
    """One dense layer: its kind, a convolution's or linear layer's arrays, and the options of the
    function of that name above."""

    kind: str
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    options: dict = field(default_factory=dict)


def run_forward(layers: list[Layer], x) -> tuple[list[np.ndarray], list]:
    """Outputs of each layer in turn, and each max-pooling's choice (None for other layers)."""
    outputs, choices = [], []
    for layer in layers:
        choice = None
        if layer.kind in ("convolution", "linear"):
            x = globals()[layer.kind](x, layer.weight, layer.bias, **layer.options)
        elif layer.kind == "max_pool":
            x, choice = max_pool(x, **layer.options)
        else:
            x = globals()[layer.kind](x, **layer.options)
        outputs.append(x)
        choices.append(choice)
    return outputs, choices


def run_backward(layers: list[Layer], x, outputs: list, choices: list, gradient):
    """Gradient of the input, and (weight, bias) gradients of each layer (None if it has none).

    `outputs` is emptied on the way, so that a large network's grids are freed as soon as possible.
    """
    weight_gradients: list = [None] * len(layers)
    while outputs:
        outputs.pop()
        layer, choice = layers[len(outputs)], choices[len(outputs)]
        given = outputs[-1] if outputs else x
        if layer.kind == "convolution":
            gradient, *rest = convolution_backward(gradient, given, layer.weight, **layer.options)
            weight_gradients[len(outputs)] = tuple(rest[:2])
        elif layer.kind == "linear":
            gradient, *rest = linear_backward(gradient, given, layer.weight)
            weight_gradients[len(outputs)] = tuple(rest)
        elif layer.kind == "max_pool":
            gradient = max_pool_backward(gradient, choice, given.shape[2:], **layer.options)
        elif layer.kind in ("average_pool", "sum_pool"):
            gradient = globals()[layer.kind + "_backward"](gradient, given.shape[2:], **layer.options)
        elif layer.kind == "upsample":
            gradient, _ = upsample_backward(gradient, given.shape[2:], layer.options["scale"])
        else:
            gradient = globals()[layer.kind + "_backward"](gradient, given, **layer.options)
    return gradient, weight_gradients
