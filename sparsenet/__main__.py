"""`python -m sparsenet COMMAND` is `sparsenet COMMAND`."""

from __future__ import annotations

import sys

from sparsenet.cli import main

if __name__ == "__main__":
    sys.exit(main())
