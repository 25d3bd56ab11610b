"""The commands that tools/ and `sparsenet benchmark` start."""
