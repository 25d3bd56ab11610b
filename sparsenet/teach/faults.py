"""Faults of a kernel in words: who does what at which line, what is wrong with it, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from sparsenet.teach.cuda_host.watched import Access, Fault, Memory

FAR = 1 << 22  # elements
Sides = int | tuple[int, ...]


def told(fault: Fault, path: Path, shapes: Mapping[str, tuple[int, ...]], grid: Sides, block: Sides,
         seconds: int) -> str:
    """The message of a fault to a learner.

    path : the source;  shapes : of the array arguments;  grid, block : of the launch
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    blocks, threads = (prod(sides) if isinstance(sides, tuple) else sides for sides in (grid, block))

    def at(access: Access) -> str:
        text = lines[access.line - 1].strip() if 0 < access.line <= len(lines) else ""
        return f"    line {access.line}: {text}" if text else ""

    def who(access: Access) -> str:
        return f"thread {_number(access.thread)} of block {_number(access.block)}"

    if fault.kind == "divergence":
        found = re.search(r"divergence: [^\n]*\n(.*)", fault.report, re.DOTALL)
        block_number = re.search(r"block \((\d+), (\d+), (\d+)\)", fault.report)
        name = _number((int(block_number[1]), int(block_number[2]), int(block_number[3]))) if block_number else "?"
        waits = found[1].rstrip() if found else ""
        return (f"divergence: threads of block {name} wait for each other in vain:\n{waits}\n"
                "All threads that a barrier or a warp operation names must come to the same line.  Is it inside an if "
                "or a "
                "loop that some of them leave out?")
    if fault.here is None and fault.memory is None:
        return fault.report
    if fault.kind == "unwritten output":
        assert fault.memory is not None
        more = f", nor to {fault.missing - 1} others of its {fault.memory.size}" if fault.missing > 1 else ""
        return (f"unwritten output: no thread writes to {_element(fault.memory, shapes)}{more}\n"
                f"The launch has {blocks * threads} threads: {blocks} block{'s' * (blocks != 1)} of {threads}.")
    assert fault.here is not None
    if fault.kind == "endless loop":
        return f"endless loop: {who(fault.here)} had not ended after {seconds} seconds, and was at\n{at(fault.here)}"
    if fault.kind in ("division by zero", "crash"):
        return f"{fault.kind}: {who(fault.here)} ended the program at, or soon after,\n{at(fault.here)}"
    assert fault.memory is not None
    does = "writes" if fault.here.writes else "reads"
    element = _element(fault.memory, shapes)
    if fault.kind == "out of bounds" and not -FAR < fault.memory.index < fault.memory.size + FAR:
        return (f"out of bounds: {who(fault.here)} {does} at an address that is far from all arrays of the kernel\n"
                f"{at(fault.here)}")
    if fault.kind == "out of bounds":
        return (f"out of bounds: {who(fault.here)} {does} {fault.memory.name}[{fault.memory.index}], but "
                f"{fault.memory.name} "
                f"has {fault.memory.size} elements{_shape(fault.memory, shapes)}\n{at(fault.here)}")
    if fault.kind == "uninitialised":
        return (f"uninitialised: {who(fault.here)} reads {element}, to which no thread has written yet\n"
                f"{at(fault.here)}\n"
                "Does nobody write there, or only later?")
    if fault.kind == "misaligned":
        return (f"misaligned: {who(fault.here)} {does} {element} at an address that is not a multiple of its size\n"
                f"{at(fault.here)}")
    return _race(fault, element, who, at)


def _race(fault: Fault, element: str, who, at) -> str:
    here, there = fault.here, fault.there
    assert here is not None and there is not None and fault.memory is not None
    verbs = ["writes" if one.writes else "reads" for one in (there, here)]
    same_block = here.block == there.block
    words = f"{who(there)} {verbs[0]} {element}, and {who(here)} {verbs[1]} it{', too' * (verbs[0] == verbs[1])}"
    places = "\n".join(dict.fromkeys(filter(None, [at(there), at(here)])))
    if not same_block:
        return (f"race: {words}, and nothing orders the two: no barrier reaches across blocks\n{places}\n"
                "Give each element to one thread, or, to count with integers, use atomicAdd.")
    if fault.memory.shared:
        return (f"race, a missing barrier: {words}, with no barrier between\n{places}\n"
                "Put __syncthreads() between the two, where all threads of the block come past (and mind the next "
                "round of a "
                "loop); if they must not both happen, give each element to one thread.")
    return (f"race: {words}, with no barrier between\n{places}\n"
            "Give each element to one thread, or, to count with integers, use atomicAdd.")


def _number(place: tuple[int, int, int]) -> str:
    """`5` along x alone, else `(5, 1)` or `(5, 1, 2)`."""
    if place[1:] == (0, 0):
        return str(place[0])
    return str(place[:2] if not place[2] else place)


def _element(memory: Memory, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """`x[70]`, with its row and column, or so, if it has several axes: `x[70], which is (8, 6) of (10, 8)`."""
    shape = shapes.get(memory.name, ()) if not memory.shared else ()
    word = f"{memory.name}[{memory.index}]"
    if len(shape) < 2 or not 0 <= memory.index < prod(shape):
        return word
    return f"{word} ({', '.join(map(str, np.unravel_index(memory.index, shape)))} of {' x '.join(map(str, shape))})"


def _shape(memory: Memory, shapes: Mapping[str, tuple[int, ...]]) -> str:
    shape = shapes.get(memory.name, ()) if not memory.shared else ()
    return f" ({' x '.join(map(str, shape))})" if len(shape) > 1 else ""
