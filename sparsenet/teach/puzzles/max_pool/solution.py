import numpy as np


def max_pool(features, background, neighbours):
    """(M, C): the largest of each window, whose inactive cells hold the background."""
    # ---- your code: two lines are enough
    rows = np.concatenate([features, background[None]])
    return rows[neighbours].max(axis=1)
    # ---- end
