"""Rows of features: sums and maxima over runs of them (cpu.py), and a row of each sample with those of its sites
(samples.py)."""
