#!/usr/bin/env python3
"""Tile sizes of the CUDA convolutions for this GPU: benchmarks/commands/tune_tiles.py."""

from start import start_benchmarks

if __name__ == "__main__":
    start_benchmarks("tune_tiles")
