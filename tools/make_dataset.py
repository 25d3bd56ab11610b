#!/usr/bin/env python3
"""`sparsenet make-dataset`, from a clone."""

from start import start

if __name__ == "__main__":
    start("make-dataset")
