"""From sums over the sites of each sample to sums or means over all cells of its grid, and back."""
