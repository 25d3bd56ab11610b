"""Sums or means over all cells of the grid of each sample, and back."""
