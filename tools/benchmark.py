#!/usr/bin/env python3
"""`sparsenet benchmark`, from a clone."""

from start import start

if __name__ == "__main__":
    start("benchmark")
