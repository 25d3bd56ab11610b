#!/usr/bin/env python3
"""Each family of kernels once on this GPU: benchmarks/commands/gpu_smoke.py."""

from start import start_benchmarks

if __name__ == "__main__":
    start_benchmarks("gpu_smoke")
