"""Soft shrinkage of 32 channels."""

from __future__ import annotations

from benchmarks.inputs import Inputs, Scene

LIMIT = 0.5


def soft_shrink_forward(scene: Scene) -> Inputs:
    return Inputs((scene.features(), LIMIT))


def soft_shrink_backward(scene: Scene) -> Inputs:
    return Inputs((scene.features(), scene.features(), LIMIT))
