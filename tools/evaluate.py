#!/usr/bin/env python3
"""`sparsenet evaluate`, from a clone."""

from start import start

if __name__ == "__main__":
    start("evaluate")
