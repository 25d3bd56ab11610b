"""A side stream on a model of a GPU whose work happens later: nothing is read before it is made, nothing is
overwritten before it is read."""

from __future__ import annotations

import gc
import sys
import threading
import types
from contextlib import contextmanager

import pytest

from sparsenet.kernels.cuda import streams
from sparsenet.kernels.cuda.streams import SideStream, shared
from sparsenet.kernels.side_stream import SameStream, side_stream


class Event:
    def __init__(self):
        self.done = False


class Stream:
    """Work in order, done when `run` says so; what an event waits for holds up what comes after."""

    def __init__(self, non_blocking: bool = False):
        self.ptr, self.waiting, self.non_blocking = id(self), [], non_blocking

    def record(self) -> Event:
        event = Event()
        self.waiting.append(lambda: setattr(event, "done", True) or True)
        return event

    def wait_event(self, event: Event) -> None:
        self.waiting.append(lambda: event.done)

    def __enter__(self) -> Stream:
        self.before, GPU.current.stream = GPU.now(), self
        return self

    def __exit__(self, *error: object) -> None:
        GPU.current.stream = self.before


class GPU:
    """Memory of named blocks; a pool that keeps free blocks by the stream they were made for."""

    def __init__(self):
        self.free: dict[int, list[int]] = {}
        self.made = 0
        self.memory: dict[int, object] = {}
        GPU.current = threading.local()
        GPU.null = Stream()
        self.cuda = types.SimpleNamespace(
            Stream=Stream, Event=Event, get_current_stream=GPU.now, is_available=lambda: True,
            get_allocator=lambda: getattr(GPU.current, "allocator", self.allocate), using_allocator=self.using,
            UnownedMemory=lambda ptr, size, owner, device: types.SimpleNamespace(ptr=ptr, owner=owner),
            MemoryPointer=lambda memory, offset: types.SimpleNamespace(ptr=memory.ptr, memory=memory),
            Device=_Device)

    @staticmethod
    def now() -> Stream:
        return getattr(GPU.current, "stream", GPU.null)

    def allocate(self, size: int) -> Pooled:
        arena = self.free.setdefault(GPU.now().ptr, [])
        self.made += not arena
        return Pooled(arena, arena.pop() if arena else self.made)

    @contextmanager
    def using(self, allocator):
        GPU.current.allocator = allocator
        yield
        del GPU.current.allocator

    def array(self):
        """Memory from the current allocator, as an array asks for it."""
        return self.cuda.get_allocator()(4)

    def write(self, array, value: object) -> None:
        place = array.ptr
        GPU.now().waiting.append(lambda: self.memory.__setitem__(place, value) or True)

    def read(self, array, into: list) -> None:
        place = array.ptr
        GPU.now().waiting.append(lambda: into.append(self.memory.get(place)) or True)

    @staticmethod
    def run(stream: Stream) -> None:
        """Do the stream's work up to the first event that has not passed."""
        while stream.waiting and stream.waiting[0]():
            stream.waiting.pop(0)


class Pooled:
    def __init__(self, arena: list[int], ptr: int):
        self.arena, self.ptr = arena, ptr

    def __del__(self):
        self.arena.append(self.ptr)


class _Device:
    id = 0

    def __init__(self, number: int = 0):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def gpu(monkeypatch) -> GPU:
    made = GPU()
    module = types.ModuleType("cupy")
    module.cuda, module.ndarray = made.cuda, Pooled
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(streams, "_streams", {})
    return made


def make(gpu: GPU, side: SideStream, value: str):
    """A batch of one array."""
    with side.work() as work:
        scratch = gpu.array()
        gpu.write(scratch, "scratch")
        batch = gpu.array()
        gpu.write(batch, value)
    return batch, work


def test_what_is_made_beside_is_read_only_when_it_is_done(gpu):
    side, seen = SideStream(), []
    batch, work = make(gpu, side, "first")
    side.deliver(work)
    gpu.read(batch, seen)
    gpu.run(GPU.null)
    assert seen == []  # the consumer's stream waits, the host does not
    gpu.run(side._stream)
    gpu.run(GPU.null)
    assert seen == ["first"]


def test_memory_of_a_dropped_batch_is_not_overwritten_before_it_is_read(gpu):
    side, seen = SideStream(), []
    batch, work = make(gpu, side, "first")
    side.deliver(work)
    gpu.read(batch, seen)
    first = batch.ptr
    del batch  # dropped while the consumer's stream has not come to read it
    gpu.run(side._stream)
    for value in ("second", "third"):
        batch, work = make(gpu, side, value)
        assert batch.ptr != first
        side.deliver(work)
        gpu.run(side._stream)
    gpu.run(GPU.null)
    assert seen == ["first"]
    kept, work = make(gpu, side, "fourth")
    side.deliver(work)  # the consumer's stream has passed: from here on the memory serves again
    assert first in [make(gpu, side, "fifth")[0].ptr, make(gpu, side, "sixth")[0].ptr]


def test_the_pool_alone_would_overwrite_it(gpu):
    """Without a side stream the test above would see memory that is overwritten too early."""
    stream, seen = Stream(), []
    with stream:
        batch = gpu.allocate(4)
        gpu.write(batch, "first")
    gpu.read(batch, seen)
    del batch
    with stream:
        gpu.write(gpu.allocate(4), "second")
    gpu.run(stream)
    gpu.run(GPU.null)
    assert seen == ["second"]


def test_scratch_memory_of_the_side_stream_serves_again_at_once(gpu):
    side = SideStream()
    with side.work():
        for _ in range(5):
            gpu.write(gpu.array(), "scratch")
    assert gpu.made == 1


def test_a_batch_that_is_kept_longer_than_the_loader_lives_dies_safely(gpu):
    side, seen = side_stream("cuda"), []
    batch, work = make(gpu, side, "first")
    side.deliver(work)
    del side
    gpu.read(batch, seen)
    first = batch.ptr
    del batch
    gc.collect()
    again = side_stream("cuda")  # of the next epoch
    batch, work = make(gpu, again, "second")
    assert batch.ptr != first
    gpu.run(again._stream)
    gpu.run(GPU.null)
    assert seen == ["first"]


def test_streams_that_meet_may_use_each_others_work(gpu):
    side, seen = SideStream(), []
    mesh = gpu.array()
    gpu.write(mesh, "mesh")  # on the consumer's stream
    side.meet()
    with side.work():
        gpu.read(mesh, seen)
    gpu.run(side._stream)
    assert seen == []
    gpu.run(GPU.null)
    gpu.run(side._stream)
    assert seen == ["mesh"]


def test_what_is_shared_is_read_on_another_stream_only_when_it_is_made(gpu):
    uploading, seen = SideStream(), []
    with uploading.work():
        mesh = gpu.array()
        gpu.write(mesh, "mesh")
        give = shared(mesh)
    others = Stream(), Stream()
    for stream in others:  # of loaders of other consumers
        with stream:
            gpu.read(give(), seen)
        gpu.run(stream)
    assert seen == []  # they wait for the upload
    gpu.run(uploading._stream)
    for stream in others:
        gpu.run(stream)
    assert seen == ["mesh", "mesh"]
    with Stream() as late:
        assert give() is mesh and not late.waiting  # nothing is left to wait for


def test_each_consumers_stream_has_one_beside_it(gpu):
    one = side_stream("cuda")
    assert one is side_stream("cuda") and one._stream.non_blocking
    with Stream():
        assert side_stream("cuda") is not one


def test_on_a_cpu_there_is_none():
    side = side_stream("cpu")
    assert isinstance(side, SameStream)
    side.meet()
    with side.work() as work:
        pass
    side.deliver(work)
