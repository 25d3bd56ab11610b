import numpy as np


def keys(coordinates, spatial_size):
    """(N,) int64: the row-major index of each site [batch, x, y, ...]."""
    # ---- your code: from the slowest axis to the fastest
    result = coordinates[:, 0].astype(np.int64)
    for axis, side in enumerate(spatial_size, 1):
        result = result * side + coordinates[:, axis]
    return result
    # ---- end
