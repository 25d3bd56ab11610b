"""Losses, each with its gradient in one pass.

    softmax_cross_entropy.py, triplet_loss.py, and mean.py, which both use
    cpu.py         scaling the gradient in the backward pass
    cuda.py        all of it on a GPU, with the .cu files
"""
