import numpy as np


def outputs(inputs, offsets, stride, padding, output_size):
    """(M, D): the output cells that some offset joins to an input site, in row-major order."""
    # ---- your code: all candidates; those that are cells of the output grid; each once
    cells = (inputs[:, None] + padding - offsets).reshape(-1, inputs.shape[1])
    cells = cells[(cells % stride == 0).all(axis=1)] // stride
    inside = ((cells >= 0) & (cells < output_size)).all(axis=1)
    return np.unique(cells[inside], axis=0)
    # ---- end
