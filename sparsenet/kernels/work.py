"""Work of a loader that runs concurrently with the consumer's on a GPU."""

from __future__ import annotations

from typing import Any


class Work:
    """A batch that is made on a side stream; see `SideStream.work` in cuda/streams.py."""

    made: Any = None  # event: the work is complete
    delivered = False
