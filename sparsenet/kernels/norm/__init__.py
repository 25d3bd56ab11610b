"""Normalization and its gradient.

    cpu.py          batch norm: statistics of sites or whole grids
    sample_norm.py  instance and group norm: statistics of each sample
    row_norm.py     layer norm: statistics of each row
    cuda.py         all three on a GPU, by batch_norm.cu, sample_norm.cu and row_norm.cu
"""
