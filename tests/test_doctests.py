"""The examples in the docstrings give what they show."""

import doctest
import importlib
import pkgutil

import pytest

import sparsenet

# Neither the commands, nor what only an interpreter with torch (and Triton) imports.
LEFT_OUT = ("__main__", "torch_layers", "torch_module", "triton_convolution")
MODULES = [module.name for module in pkgutil.walk_packages(sparsenet.__path__, "sparsenet.")
           if not module.name.endswith(LEFT_OUT)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    count = sum(len(test.examples) for name in MODULES for test in finder.find(importlib.import_module(name)))
    assert count >= 20
