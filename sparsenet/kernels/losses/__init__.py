"""Losses, each with its gradient in one pass.

    softmax_cross_entropy.py, triplet_loss.py, and mean.py, which both end with
    cpu.py         the gradient scaled on its way back
    cuda.py        all of it on a GPU, through the .cu files
"""
