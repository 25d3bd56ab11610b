"""A side stream, on which a loader makes batches while a training step runs on the consumer's stream.

Two orders have to be kept between the two streams:

    made, then read             `deliver`: the consumer's stream waits for an event of the side stream
    read, then overwritten      `deliver`, later: the memory of a freed batch is held until an event of the consumer's
                                stream, recorded after it was freed, has completed

Data that outlive a batch and are read on any stream, such as a mesh kept on the device, are `shared`.

The second order matters because CuPy's pool keeps freed blocks by the stream that they were allocated on, and reuses
them at once.  That is safe if one stream does everything in order.  But a block of a batch was allocated on the side
stream, and the consumer's stream may still be reading it when the last array over it is freed.  So each block
allocated within `work` reports when it is freed.  A block freed before the batch is delivered was used by the side
stream alone and returns to the pool at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sparsenet.backend import cupy
from sparsenet.kernels.work import Work

T = TypeVar("T")


class SideStream:
    """A stream beside the consumer's, which is the current one when this is created."""

    def __init__(self) -> None:
        self._cuda = cupy().cuda
        self._device = int(self._cuda.Device().id)
        self._stream = self._cuda.Stream(non_blocking=True)
        self._dead: deque[Any] = deque()  # blocks freed after delivery
        self._kept: deque[tuple[Any, list]] = deque()  # (event of the consumer's stream, blocks freed before it)

    @contextmanager
    def work(self) -> Iterator[Work]:
        """Context in which the calling thread computes on this stream; several threads may use it in turn.

        Yields the argument for `deliver`, which is called when the consumer takes over.
        """
        work, allocate = Work(), self._cuda.get_allocator()

        def block(size: int) -> Any:
            memory = allocate(size)
            if not size:
                return memory
            held = self._cuda.UnownedMemory(memory.ptr, size, _Block(memory, work, self._dead), self._device)
            return self._cuda.MemoryPointer(held, 0)

        with self._cuda.Device(self._device), self._stream, self._cuda.using_allocator(block):
            yield work
            work.made = self._stream.record()

    def deliver(self, work: Work) -> None:
        """Let the current stream read the results of the work; the stream waits for them, the host does not."""
        stream = self._cuda.get_current_stream()
        dead = [self._dead.popleft() for _ in range(len(self._dead))]  # before the event is recorded
        if dead:
            self._kept.append((stream.record(), dead))
        del dead
        while self._kept and self._kept[0][0].done:
            self._kept.popleft()
        work.delivered = True
        stream.wait_event(work.made)

    def meet(self) -> None:
        """Make this stream and the current one wait for each other: both may then use the results of either."""
        stream = self._cuda.get_current_stream()
        self._stream.wait_event(stream.record())
        stream.wait_event(self._stream.record())


class _Block:
    """Owns memory of the pool; CuPy's arrays own the block."""

    __slots__ = ("dead", "memory", "work")

    def __init__(self, memory: Any, work: Work, dead: deque):
        self.memory, self.work, self.dead = memory, work, dead

    def __del__(self) -> None:
        if self.work.delivered:
            self.dead.append(self.memory)


def shared(value: T) -> Callable[[], T]:
    """Returns a function that yields the value, which was just made on the current stream; the calling thread's stream
    then waits until it is complete, the host does not."""
    cuda = cupy().cuda
    made: list[Any] = [cuda.get_current_stream().record()]

    def give() -> T:
        for event in made[:]:  # empty once the event has completed
            if event.done:
                made.clear()
            else:
                cuda.get_current_stream().wait_event(event)
        return value

    return give


_streams: dict[tuple[int, int], SideStream] = {}  # by device and consumer's stream, as the pool keeps blocks by stream


def stream_beside() -> SideStream:
    """The side stream of the current stream; the same each time, so that an epoch reuses the memory of the last."""
    cuda = cupy().cuda
    place = int(cuda.Device().id), int(cuda.get_current_stream().ptr)
    found = _streams.get(place)
    return found or _streams.setdefault(place, SideStream())
