"""Profile of a step: time by kernel.

While a `Profile` is open it replaces `Kernel.__call__` to record times.  This costs about a microsecond per call, so
profiled steps are not the timed ones.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sparsenet.kernels.table import Kernel


@dataclass
class Profile:
    """A recorded profile.

    kernels : seconds of each kernel by (phase, name), on the calling thread
    phase : set by the caller, such as "forward"
    """

    kernels: Counter = field(default_factory=Counter)
    phase: str = ""

    @contextmanager
    def open(self) -> Iterator[Profile]:
        plain = Kernel.__call__

        def call(kernel: Kernel, *values: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return plain(kernel, *values, **options)
            finally:
                self.kernels[self.phase, kernel.name] += time.perf_counter() - begun

        Kernel.__call__ = call
        try:
            yield self
        finally:
            Kernel.__call__ = plain
