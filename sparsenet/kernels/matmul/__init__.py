"""Matrix products with the same bits for any number of threads."""
