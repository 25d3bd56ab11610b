"""Benchmarks: each pass is verified against a reference, then timed beside its ceiling and its peers.

    from sparsenet.benchmark import Settings, run
    results = run(Settings(), only=["convolution"])
    results.save("cpu.json")

What the figures mean: docs/performance.md.  The tool: tools/benchmark.py.
"""

from sparsenet.benchmark.comparison import compare
from sparsenet.benchmark.figures import Figure, Results
from sparsenet.benchmark.sections import SECTIONS, run
from sparsenet.benchmark.timing import Settings

__all__ = ["SECTIONS", "Figure", "Results", "Settings", "compare", "run"]
