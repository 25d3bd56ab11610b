"""A stream beside the consumer's: on it a loader makes batches while a training step runs.

Two orders have to be kept between the stream on which a batch is made and the one on which it is used:

    made, then read             `deliver`: the consumer's stream waits for an event of the side stream
    read, then overwritten      `deliver`, later: memory of a batch that has died is kept until an event of the
                                consumer's stream, recorded after the death, has passed

What outlives a batch and is read on any stream, such as a mesh that is kept on the device, is `shared`.

The second is needed since CuPy's pool keeps freed blocks by the stream they were first made for, and hands
them out again at once: that is safe where one stream does everything in order, but a block of a batch was made
for the side stream, and the consumer's stream may still be reading it when the last array over it is dropped.
So each block that is made within `work` tells of its death.  What dies before the batch is delivered was seen by
the side stream alone and goes back to the pool at once.
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
    """A stream of its own, beside the one that is current where this is made: the consumer's."""

    def __init__(self) -> None:
        self._cuda = cupy().cuda
        self._device = int(self._cuda.Device().id)
        self._stream = self._cuda.Stream(non_blocking=True)
        self._dead: deque[Any] = deque()  # blocks that died after delivery
        self._kept: deque[tuple[Any, list]] = deque()  # (event of the consumer's stream, blocks that died before it)

    @contextmanager
    def work(self) -> Iterator[Work]:
        """Within it, what the calling thread computes runs on this stream; several threads take turns on it.

        Yields what `deliver` is to be given when the consumer takes over.
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
        """From here on the current stream may read what was made in that work; the host waits for nothing."""
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
        """This stream and the current one wait for each other: what either did before, both may use."""
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
    """A function that gives what was just made on the current stream to whoever asks: his stream then waits until it
    is made, the host does not."""
    cuda = cupy().cuda
    made: list[Any] = [cuda.get_current_stream().record()]

    def give() -> T:
        for event in made[:]:  # empty once it has passed
            if event.done:
                made.clear()
            else:
                cuda.get_current_stream().wait_event(event)
        return value

    return give


_streams: dict[tuple[int, int], SideStream] = {}  # by device and consumer's stream: the pool knows blocks by stream


def stream_beside() -> SideStream:
    """The stream beside the current one; the same each time, so that one epoch's memory serves the next."""
    cuda = cupy().cuda
    place = int(cuda.Device().id), int(cuda.get_current_stream().ptr)
    found = _streams.get(place)
    return found or _streams.setdefault(place, SideStream())
