#!/usr/bin/env python3
"""Lesson 3: a new operation, written with Function, gradient-checked, and used as a layer.

    python examples/new_operation.py --out pictures
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import sparsenet as sn
from sparsenet.gradcheck import GradcheckError


# 1. An operation is a Function: `forward` takes arrays and saves what `backward` needs, `backward` computes
#    the gradient of the input from that of the output.  Here: swish(x) = x * sigmoid(x),
#    which `sn.ops.silu` computes by kernels of its own.
class Swish(sn.Function):
    def forward(self, x: np.ndarray) -> np.ndarray:
        sigmoid = 1 / (1 + np.exp(-x))
        self.save(x, sigmoid)
        return x * sigmoid

    def backward(self, gradient: np.ndarray) -> np.ndarray:
        x, sigmoid = self.saved
        return gradient * sigmoid * (1 + x * (1 - sigmoid))


class WrongSwish(Swish):
    def backward(self, gradient: np.ndarray) -> np.ndarray:
        return 1.001 * super().backward(gradient)  # wrong by a tenth of a percent


# 2. The public function applies it to both the sites and the background, since inactive cells are cells too.
def swish(x: sn.SparseTensor) -> sn.SparseTensor:
    background = None if x.background is None else Swish().apply(x.background)
    return x.with_features(Swish().apply(x.features), background)


# 3. A layer is a Module with a `forward` method.  This one has no parameters.
class SwishLayer(sn.nn.Module):
    def forward(self, x: Any) -> Any:
        return swish(x)


def main(out: Path) -> None:
    # 4. The gradient check compares `backward` with finite differences, in float64, along random directions.
    rng = np.random.default_rng(0)
    x = sn.Tensor(rng.standard_normal((5, 3)), requires_grad=True)
    assert sn.gradcheck(lambda x: Swish().apply(x), [x])
    print("swish: the gradient is correct")
    try:
        sn.gradcheck(lambda x: WrongSwish().apply(x), [x])
    except GradcheckError as error:
        print(f"a gradient that is wrong by 0.1% is caught:\n  {error}")

    # 5. The layer works in any network, and the whole network can be checked: input, background, weights.
    net = sn.SparseNetwork(dimension=2, in_channels=2, seed=1).add_convolution(4, 2).add(SwishLayer())
    net.add_max_pool(2).add(SwishLayer()).add_linear(3).to(dtype="float64")
    batch = sn.SparseTensor.from_dense(np.where(rng.random((2, 2, 7, 7)) < 0.3, rng.standard_normal((2, 2, 7, 7)), 0))
    batch = batch.with_features(sn.Tensor(batch.features.array, requires_grad=True),
                                sn.Tensor(np.array([0.3, -0.4]), requires_grad=True))
    assert sn.gradcheck(net, [batch], parameters=dict(net.named_parameters()))
    print("\na network with the new layer: the gradients of input, background and all weights are correct")

    # 6. Like any other network, it can be traced.
    seen = sn.inspect.trace(net, batch)
    sn.ops.softmax_cross_entropy(seen.output, np.array([0, 2])).backward()
    print(f"\n{seen}")

    line = sn.Tensor(np.linspace(-6, 6, 241), requires_grad=True)
    y = Swish().apply(line)
    y.sum().backward()
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(line.numpy(), y.numpy(), label="swish(x) = x sigmoid(x)")
    axes.plot(line.numpy(), line.grad, label="its gradient, by backward")
    axes.set(xlabel="x", ylabel="value")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    sn.inspect.save_figure(figure, out / "swish.png")
    print(f"\nPicture: {out / 'swish.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the pictures (default: a new temporary one)")
    folder = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="sparsenet-"))
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
