"""One kernel family, called for the first time in this process by eight threads at once.

    python tests/kernels/cold_start.py FAMILY[/PART]

Prints what went wrong, or "fine" if all threads got the same bits.
"""

from __future__ import annotations

import sys
import threading

import numpy as np

from sparsenet.kernels import launch

_F = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)
_KEYS = np.array([1, 4, 9], np.int64)
_COORDINATES = np.array([[0, 1], [0, 4], [0, 9]], np.int32)
_INPUTS = _KEYS, _COORDINATES, np.array([0, 3])
_AXES = (12,), (11,), (2,), (1,), (0,), (1,)
_NEIGHBOURS = np.array([[0, 1], [1, 2], [-1, 0]], np.int32)
_WEIGHTS = np.ones((2, 2, 3), np.float32)
_WIDE, _WIDE_WEIGHTS = np.ones((3, 64), np.float32), np.ones((2, 64, 64), np.float32)
_SPLITS = np.array([0, 1, 3])
_TRIANGLE = np.array([[1, 1, 1], [9001, 1, 1], [1, 9001, 1]], np.int64), np.array([[0, 1, 2]], np.int32)


class _Book:
    """A rulebook of four pairs: a CPU goes through the neighbours with few channels, through the pairs with many."""

    device, shape, submanifold, non_overlapping, pair_count, max_pairs = "cpu", (3, 3, 2), False, False, 4, 6
    neighbours = transposed_neighbours = np.array([[0, 1], [1, -1], [-1, 0]], np.int32)
    windows = neighbours
    pairs, pair_splits = np.array([[0, 0], [1, 1], [1, 0], [0, 2]], np.int32), np.array([0, 2, 4])


def _sgd() -> np.ndarray:
    parameter = [_F.ravel().copy()]
    launch("sgd_step", parameter, [_F.ravel().copy()], [_F.ravel().copy()], None, 0.1, 0.9, 0.0, False, 0.0, 1.0)
    return parameter[0]


def _adam() -> np.ndarray:
    parameter, *kept = ([_F.ravel() ** 2] for _ in range(4))
    launch("adam_step", parameter, *kept, None, None, 0.1, 0.9, 0.9, 1e-8, 0.0, False, 1, 1.0)
    return parameter[0]


def _batch_norm() -> tuple:
    moments = launch("batch_norm_statistics", _F, None, None, 0, None, None, 0.0)
    return (moments, launch("batch_norm_forward", _F, None, moments, _F[0], _F[1], 1e-5),
            launch("batch_norm_backward", _F, None, _F, None, None, 0, moments, _F[0], 1e-5, True))


def _sample_norm() -> tuple:
    y, _, moments = launch("sample_norm_forward", _F, None, _SPLITS, 0, _F[0], _F[1], 1, 1e-5)
    return y, launch("sample_norm_backward", _F, None, _F, None, _SPLITS, 0, moments, _F[0], 1e-5)[::2]


def _meshes() -> tuple:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    placement = np.concatenate([np.eye(3).ravel(), np.eye(3).ravel(), np.zeros(3)])[None]
    return launch("voxelize_meshes", vertices, np.array([0, 3]), _TRIANGLE[1], np.array([0, 1]), placement, (8, 8, 8),
                  6, False)


def _scaled() -> np.ndarray:
    gradient = _F.ravel().copy()
    launch("scale_gradient", gradient, np.array(3, np.float32))
    return gradient


CALLS = {
    "matmul": lambda: launch("matmul", _F, np.ones((2, 4), np.float32)),
    "hash_table": lambda: launch("hash_lookup", *launch("hash_insert", _KEYS, True), _KEYS),
    "rulebook": lambda: (launch("output_keys", *_INPUTS, None, *_AXES),
                         launch("transpose_neighbours", _NEIGHBOURS, 3)),
    "rulebook/windows": lambda: launch("windows", _NEIGHBOURS, _COORDINATES, *_AXES),
    "convolution": lambda: launch("convolution_forward", _F, _WEIGHTS, _Book(), None),
    "convolution/pairs": lambda: launch("convolution_forward", _WIDE, _WIDE_WEIGHTS, _Book(), None),
    "convolution/by_row": lambda: (launch("convolution_forward_by_row", _F, _WEIGHTS, _Book(), None),
                                   launch("convolution_forward_by_row", _WIDE, _WIDE_WEIGHTS, _Book(), None)),
    "grouped": lambda: (launch("grouped_convolution_forward", _F, _WEIGHTS[:, :1, :2].copy(), _Book(), None, 2),
                        launch("grouped_convolution_weight_gradient", _F, _F, _Book(), 2)),
    "pooling": lambda: launch("max_pool_forward", _F, None, _NEIGHBOURS, _COORDINATES),
    "pooling/sums": lambda: (launch("sum_pool_forward", _F, _F[:1], _NEIGHBOURS, _COORDINATES, True),
                             launch("sum_pool_backward", _F, _Book(), None, True, True, True)),
    "activations": lambda: launch("leaky_relu_forward", _F, 0.33),
    "activations/exponentials": lambda: (launch("activation_forward", _F, 1, 1.0),
                                         launch("activation_backward", _F, _F, 1, 1.0)),
    "activations/prelu": lambda: (launch("prelu_forward", _F, _F[0].copy()),
                                  launch("prelu_backward", _F, _F, _F[0].copy())[2]),
    "activations/softmax": lambda: launch("softmax_backward", launch("softmax_forward", _F), _F),
    "norm": _batch_norm,
    "norm/sample_norm": _sample_norm,
    "norm/row_norm": lambda: (launch("row_norm_forward", _F, _F[0], _F[1], 1, 1e-5, False),
                              launch("row_norm_backward", _F, _F, np.ones((2, 1, len(_F))), _F[0])),
    "level": lambda: launch("level_backgrounds", [_WEIGHTS], [None], None, [0.33], [False], True)[0],
    "cell_sums": lambda: launch("cell_sums", _F, _SPLITS, None, 8, False),
    "rows": lambda: launch("segment_sum", _F, _SPLITS),
    "points": lambda: (launch("point_keys", _F, None, np.zeros(2), np.ones(2), (2, 2), 1),
                       launch("group_sum", _F, np.arange(3), _SPLITS, None, True)),
    "rows/unions": lambda: (launch("concatenate_rows", _F, _F), launch("add_rows", _F, _F),
                            launch("subtract_rows", _F, _F), launch("multiply_rows", _F, _F),
                            launch("split_rows", _F, None, None, 1)),
    "rows/samples": lambda: launch("add_sample_rows", _F, _F[:1], _COORDINATES),
    "voxels": lambda: launch("voxelize_triangles", *_TRIANGLE, (8, 8, 8)),
    "voxels/meshes": _meshes,
    "optim": _sgd,
    "optim/adam": _adam,
    "losses/softmax_cross_entropy": lambda: launch("softmax_cross_entropy", _F, np.array([0, 1, 1]), False),
    "losses/triplet_loss": lambda: launch("triplet_loss", _F, _F[::-1].copy(), _F, 1.0, 0, False),
    "losses": _scaled,
}


def bits(result: object) -> bytes:
    """The bytes of all arrays in a result."""
    return b"".join(map(bits, result)) if isinstance(result, tuple) else np.asarray(result).tobytes()


def main(family: str) -> str:
    start, results, faults = threading.Barrier(8), [], []

    def work() -> None:
        start.wait()
        try:
            results.append(bits(CALLS[family]()))
        except BaseException as error:
            faults.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return faults[0] if faults else "fine" if len(set(results)) == 1 and len(results) == 8 else "bits differ"


if __name__ == "__main__":
    print(main(sys.argv[1]))
