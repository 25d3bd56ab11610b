"""Activations of 32 channels and their background."""

from __future__ import annotations

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.scene import CHANNELS
from sparsenet.kernels.activations import GELU

SLOPE = 0.33


def leaky_relu_forward(scene: Scene) -> Inputs:
    return Inputs((scene.features(), SLOPE, scene.background()))


def leaky_relu_backward(scene: Scene) -> Inputs:
    return _backward(scene, SLOPE)


def activation_forward(scene: Scene) -> Inputs:
    """GELU, of the five the one with most arithmetic."""
    return Inputs((scene.features(), GELU, 1.0, scene.background()))


def activation_backward(scene: Scene) -> Inputs:
    return _backward(scene, GELU, 1.0)


def prelu_forward(scene: Scene) -> Inputs:
    return Inputs((scene.features(), scene.normal(CHANNELS), scene.background()))


def prelu_backward(scene: Scene) -> Inputs:
    return _backward(scene, scene.normal(CHANNELS))


def softmax_forward(scene: Scene) -> Inputs:
    return Inputs((scene.features(), scene.background()))


def softmax_backward(scene: Scene) -> Inputs:
    return _backward(scene)


def _backward(scene: Scene, *settings) -> Inputs:
    return Inputs((scene.features(), scene.features(), *settings, scene.background(), scene.background()))
