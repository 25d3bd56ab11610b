#!/usr/bin/env python3
"""`sparsenet serve`, from a clone."""

from start import start

if __name__ == "__main__":
    start("serve")
