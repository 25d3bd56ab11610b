#!/usr/bin/env python3
"""Tests and benchmarks on a machine with a GPU: benchmarks/commands/gpu_campaign.py."""

from start import start_benchmarks

if __name__ == "__main__":
    start_benchmarks("gpu_campaign")
