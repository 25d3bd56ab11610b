"""The commands run by tools/ and `sparsenet benchmark`."""
