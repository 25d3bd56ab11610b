"""Convolutions and the gradient of their weights, over the neighbours or the pairs of a rulebook.

    view.py        which of the two is cheaper on a CPU
    cpu.py         over the neighbours: gather, then multiply
    pairs.py       over the pairs
    by_row.py      in evaluation: the bits of a row depend on no other row
    cuda.py        on a GPU, through the .cu files; wgmma.py: large products on sm_90, order.py: the order of rows
    tuning.py      finds tile sizes for a GPU (cuda/tiles.py)
"""

from sparsenet.kernels.convolution.view import forward_way, weight_gradient_way

__all__ = ["forward_way", "weight_gradient_way"]
