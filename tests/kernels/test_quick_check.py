"""The generated checks accept nothing that the slower checks, which name the fault, would refuse."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from convolution_cases import Table

from sparsenet.kernels import find
from sparsenet.kernels.cuda.signature import parse, quick_check
from sparsenet.kernels.table import Array, Arrays, Integers, Kernel, Rulebook, Scalar, names

NAMES = names()
SIZES = (2, 3)


def usual(expected: object, sizes: dict[str, int], count: int = 2) -> object:
    """A value that an argument may have."""
    if isinstance(expected, Scalar):
        return expected.type(1)
    if isinstance(expected, Integers):
        return (1,) * sizes.setdefault(expected.length, 3)
    if isinstance(expected, Arrays):
        return [usual(expected.at(i), sizes) for i in range(count)]
    if not isinstance(expected, Array | Rulebook):
        return None
    shape = [int(word) if word.isdigit() else sizes.setdefault(word, 2 + len(sizes)) for word in expected.words]
    if isinstance(expected, Rulebook):
        return Table(np.zeros(shape[1:], np.int32), shape[0])
    return np.zeros(shape, np.float32 if expected.only is None else expected.only)


def unusual(value: object) -> list[object]:
    """Other values that a caller might pass in its place."""
    others: list[object] = [None, 1, 1.5, True, "1", np.float32(1), np.int64(1), (1, 2), (1, 2.0, 3), [1, 2, 3]]
    if isinstance(value, list):
        others += [[], value[:1], [*value[:1], *map(np.float64, value[1:])], [one.reshape(1, -1) for one in value],
                   [one[::2] for one in value], tuple(value), [None, *value[1:]]]
    if isinstance(value, np.ndarray):
        others += [value.astype(dtype) for dtype in ("float16", "float64", "int32", "int64", "float32")]
        others += [value[None], value[..., None], np.zeros([size + 1 for size in value.shape], value.dtype),
                   value.astype(value.dtype.newbyteorder()), value.tolist()]
        others += [np.concatenate([value, value], axis=axis) for axis in range(value.ndim)]
        if value.ndim:
            others += [np.concatenate([value, value])[::2]]
    if isinstance(value, Table):
        inputs, elsewhere = value.shape[0], Table(value.neighbours, value.shape[0])
        elsewhere.device = "cuda"
        others += [elsewhere, Table, Table(value.neighbours, inputs + 1), Table(value.neighbours[1:], inputs),
                   Table(value.neighbours[:, 1:], inputs)]
    return others


def accepts(kernel: Kernel, values: tuple) -> bool:
    try:
        return kernel.check(values) == "cpu"
    except (TypeError, ValueError):
        return False


@pytest.mark.parametrize("name", NAMES)
def test_of_a_kernel(name):
    kernel, sizes = find(name), {}
    values = tuple(usual(expected, sizes) for expected in kernel.arguments.values())
    if name not in ("sgd_step", "adam_step"):  # masters of float32 parameters are float32
        assert accepts(kernel, values)
    assert kernel._quick_backend(values, None) == "cpu"
    for place, value in enumerate(values):
        for other in unusual(value):
            changed = (*values[:place], other, *values[place + 1:])
            if kernel._quick_backend(changed, None) is not None:
                assert accepts(kernel, changed), (name, list(kernel.arguments)[place], other)
    optional = [i for i, one in enumerate(kernel.arguments.values()) if getattr(one, "optional", False)]
    for given in itertools.product((True, False), repeat=len(optional)):
        left_out = {place for place, one in zip(optional, given, strict=True) if not one}
        some = tuple(None if i in left_out else value for i, value in enumerate(values))
        assert kernel._quick_backend(some, None) == ("cpu" if accepts(kernel, some) else None)


def test_of_a_signature():
    text = 'extern "C" __global__ void k(const float* x, OPTIONAL int* y, int n, unsigned char b, double f, bool g) {'
    (parameters,) = parse(text, {}).values()
    check = quick_check(parameters)
    usual = (np.zeros(2, np.float32), np.zeros(2, np.int32), 5, 255, 0.5, True)
    assert check(usual, np.ndarray) and check((usual[0], None, -2**31, 0, 1, False), np.ndarray)
    read_only = np.zeros(2, np.int32)
    read_only.flags.writeable = False
    wrong = [(0, None), (0, np.zeros(2)), (0, np.zeros(4, np.float32)[::2]), (0, [0.0]), (1, read_only), (2, 2**31),
             (2, True), (2, 1.0), (2, None), (3, 256), (3, -1), (4, "1"), (4, None), (5, 1), (5, np.zeros(1))]
    for place, value in wrong:
        assert not check((*usual[:place], value, *usual[place + 1:]), np.ndarray), (place, value)
