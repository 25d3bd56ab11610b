import numpy as np


def background(features, background, weights, bias, neighbours):
    """(M, C_out) and (C_out,): the convolution at the output sites, and in all other cells of the output."""
    # ---- your code: the constant row; the pairs of each offset
    constant = background @ weights.sum(axis=0) + bias
    result = np.tile(constant, (len(neighbours), 1))
    for k in range(len(weights)):
        m = np.flatnonzero(neighbours[:, k] >= 0)
        result[m] += (features[neighbours[m, k]] - background) @ weights[k]
    return result, constant
    # ---- end
