"""For learners: puzzles, and the host executor of CUDA kernels, on which kernels run without a GPU."""
