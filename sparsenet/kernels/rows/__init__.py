"""Rows of features.

    cpu.py         sums and maxima over runs of rows
    samples.py     one row for each sample, combined with the rows of its sites
    cuda.py        both on a GPU, by segment.cu and CuPy's own kernels
"""
