"""Benchmarks: each pass is verified against a reference, then timed and compared with its ceiling and its peers.

    from benchmarks import Settings, run
    results = run(Settings(), only=["convolution"])
    results.save("cpu.json")

docs/performance.md explains the figures.  The command is `sparsenet benchmark`.
"""

from benchmarks.comparison import compare
from benchmarks.figures import Figure, Results
from benchmarks.sections import SECTIONS, run
from benchmarks.timing import Settings

__all__ = ["SECTIONS", "Figure", "Results", "Settings", "compare", "run"]
