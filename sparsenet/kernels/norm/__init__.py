"""Batch normalization: statistics of sites or whole grids, normalization, and its gradient."""
