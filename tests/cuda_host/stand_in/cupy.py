"""`import cupy` on a machine without a GPU: a whole process whose device "cuda" is the host (`cupy_of_numpy`).

A process that has this folder and the checkout on its PYTHONPATH finds this module; kernels run by the host driver.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
from cuda_host import cupy_of_numpy  # noqa: E402

from sparsenet.teach.cuda_host.host_driver import HostDriver  # noqa: E402

cupy_of_numpy.install(HostDriver())  # puts another module in the place of this one
