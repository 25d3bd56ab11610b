#!/usr/bin/env python3
"""`sparsenet inspect`, from a clone."""

from start import start

if __name__ == "__main__":
    start("inspect")
