"""Windows of made-up inputs, for the kernels of pooling."""

import numpy as np

OUTSIDE = -2  # of a window: a cell outside the grid


def case(outputs=(12, 0, 18), k=8, c=5, dtype=np.float32, seed=0):
    """Samples that see their own inputs, each input at most once for each offset, each window some input; some cells
    lie outside the grid."""
    rng = np.random.default_rng(seed)
    parts, n = [], 0
    for rows in outputs:
        inputs = rows + 3 * (rows > 0)
        part = np.stack([n + rng.permutation(inputs)[:rows] for _ in range(k)], axis=1)
        kept = rng.random((rows, k)) < 0.6
        kept[np.arange(rows), rng.integers(0, k, rows)] = True
        parts.append(np.where(kept, part, rng.choice([-1, -1, OUTSIDE], part.shape)))
        n += inputs
    neighbours = np.concatenate(parts).astype(np.int32)
    features = rng.integers(-3, 3, (n, c)).astype(dtype)  # many ties, many negatives
    coordinates = np.zeros((len(neighbours), 4), np.int32)
    coordinates[:, 0] = np.repeat(np.arange(len(outputs)), outputs)
    return features, neighbours, coordinates, np.cumsum([0, *outputs])
