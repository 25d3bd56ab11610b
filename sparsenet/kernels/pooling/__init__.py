"""Pooling over the windows of a rulebook: maxima in which the background competes, sums and means; and their gradients.

    cpu.py         maxima
    sums.py        sums and means
    ahead.py       rows that a loop over windows reads before it needs them
    cuda.py        both on a GPU, by max_pool.cu and sum_pool.cu
"""
