"""Batch normalization: statistics of sites or whole grids, the map, and its gradient."""
