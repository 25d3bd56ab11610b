"""Type declarations: the declared operators are the existing ones, and the README's code passes a type checker."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sparsenet as sn
from sparsenet.ops.methods import TensorMethods

ROOT = Path(__file__).parents[1]


def declared(cls):
    """Name -> arguments of each method below `if TYPE_CHECKING` in a class."""
    (body,) = ast.parse(inspect.getsource(cls)).body
    blocks = [node for node in body.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)]
    return {method.name: [argument.arg for argument in method.args.args] for block in blocks for method in block.body}


def attached(cls):
    """The names of the methods, static ones too, that other modules gave a class."""
    methods = {name: getattr(cls, name) for name in vars(cls) if inspect.isfunction(getattr(cls, name))}
    return {name for name, method in methods.items() if method.__module__ != cls.__module__}


def test_operators_that_a_sparse_tensor_declares_are_those_that_are_attached():
    assert set(declared(sn.SparseTensor)) == attached(sn.SparseTensor) > set()


def test_a_tensor_has_every_method_that_type_checkers_know():
    wanted = {name: value for name, value in vars(TensorMethods).items()
              if inspect.isfunction(value) or isinstance(value, property)}
    assert wanted == {name: vars(sn.Tensor)[name] for name in wanted} and len(wanted) > 40
    assert set(wanted) >= attached(sn.Tensor)


EXAMPLE = """
import numpy as np
import sparsenet as sn

w = sn.Tensor(np.ones((2, 3)), requires_grad=True)
y = 2 * w + w * w - 1 / (w + 3) @ w[0:1].reshape(3, 1) - (-w) ** 2
number: float = y.sum(axis=0, keepdims=True).mean().item()
product: sn.Tensor = np.ones(3) * w
one: float = float(w.exp().log().abs().sqrt().tanh().sigmoid().clip(0, 1).max(axis=0).min())
moved: sn.Tensor = sn.concatenate([w.T, w.transpose(0, 1)]).clone().to(np.float64)
best: int = int(sn.where(w > 0, sn.maximum(w, 0), sn.minimum(w, 1.0)).argmax(axis=1).sum())
print(w.grad.shape, np.asarray(w), len(w), w.shape[0], w.dtype.kind, w.ndim + 1, w.device.upper())
x = sn.SparseTensor.from_dense(np.ones((1, 2, 3, 4)))
total: sn.SparseTensor = sn.ops.dropout(sn.ops.leaky_relu(x + x, 0.1), p=0.5, rng=np.random.default_rng())
scaled: sn.SparseTensor = -(2 * x - x * x) / 3
points: sn.SparseTensor = sn.SparseTensor.from_points(np.ones((5, 3)), np.ones((5, 1)), voxel_size=0.1)
read: sn.Tensor = points.at_points(np.ones((5, 3)), 0.1, 1.0, mode="trilinear")
print(total.to_dense().shape, total.features.shape, total.channels + 1, total.spatial_size[0], total.device.upper())
net = sn.nn.Sequential(sn.nn.SparseConv(1, 2, (2, 2)), sn.nn.LeakyReLU())
net[0].weight.array[:] = 0
"""


@pytest.mark.extra("dev")
def test_mypy_takes_the_readme_and_an_example(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "readme.py").write_text(code, encoding="utf-8")
    (tmp_path / "example.py").write_text(EXAMPLE, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", f"--cache-dir={tmp_path / 'cache'}",
               "readme.py", "example.py"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout
