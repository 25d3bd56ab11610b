"""Pooling over the windows of a rulebook: maxima in which the background competes, sums and means; and their gradients.

    cpu.py         maxima
    sums.py        sums and means
    cuda.py        both on a GPU, by max_pool.cu and sum_pool.cu
"""
