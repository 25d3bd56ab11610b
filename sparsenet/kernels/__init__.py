"""Kernels: one family a module, found by name through `launch` (see `table`)."""

from sparsenet.kernels.table import find, launch
from sparsenet.kernels.threads import get_num_threads, set_num_threads

__all__ = ["find", "get_num_threads", "launch", "set_num_threads"]
