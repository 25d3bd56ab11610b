"""The machinery of the Numba backend: threads, memory, vectors, BLAS, and where compiled functions are kept."""
