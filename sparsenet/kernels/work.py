"""Work of a loader, done beside the consumer's on a GPU."""

from __future__ import annotations

from typing import Any


class Work:
    """Something made beside; see `SideStream.work` of cuda/streams.py."""

    made: Any = None  # event: all of it is done
    delivered = False
