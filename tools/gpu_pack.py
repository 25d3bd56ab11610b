#!/usr/bin/env python3
"""Pack what a machine with a GPU needs besides the clone: benchmarks/commands/gpu_pack.py."""

from start import start_benchmarks

if __name__ == "__main__":
    start_benchmarks("gpu_pack")
