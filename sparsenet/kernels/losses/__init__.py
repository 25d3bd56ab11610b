"""Losses, each with its gradient in one pass.

    softmax_cross_entropy.py, triplet_loss.py
    cpu.py         what they have in common
"""
