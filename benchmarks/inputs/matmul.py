"""Products of rows with a square matrix."""

from __future__ import annotations

from benchmarks.inputs import Inputs, Scene

WIDTH = 128


def matmul(scene: Scene) -> Inputs:
    return Inputs((scene.normal(scene.size, WIDTH), scene.weights(WIDTH, 1, WIDTH)[:, 0].copy()),
                  scene.size * WIDTH * WIDTH)


def matmul_by_row(scene: Scene) -> Inputs:
    return matmul(scene)
