"""The meshes that users sent lately, so that their inspector pages can be made when they are asked for."""

from __future__ import annotations

import secrets
import threading

KEY_BYTES = 16


class Sent:
    """Meshes by keys that nobody can guess, in the memory of the server alone; the oldest give way to new ones.

    limit : bytes of all of them; one that is larger is not kept
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._held: dict[str, tuple[bytes, str | None]] = {}  # in the order of their last use
        self._bytes = 0
        self._lock = threading.Lock()

    def keep(self, data: bytes, up_axis: str | None) -> str | None:
        """The key of a mesh, the bytes of its file; None if it is not kept."""
        if len(data) > self._limit:
            return None
        key = secrets.token_urlsafe(KEY_BYTES)
        with self._lock:
            self._held[key] = data, up_axis
            self._bytes += len(data)
            while self._bytes > self._limit:
                oldest, _ = self._held.pop(next(iter(self._held)))
                self._bytes -= len(oldest)
        return key

    def get(self, key: str) -> tuple[bytes, str | None] | None:
        """The bytes of a mesh and its up axis; None if it is no longer kept."""
        with self._lock:
            found = self._held.pop(key, None)
            if found is not None:
                self._held[key] = found  # the last to give way
            return found
