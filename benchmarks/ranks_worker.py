"""A rank of `ranks.TwoRanks`: `mpirun -n 2 python -m benchmarks.ranks_worker DATASET LOSS SHARDS [quick]`.

Rank 0 reads words, a line each, until its input ends: "step" runs one and prints its seconds, "digest" prints that of
the weights.
"""

from __future__ import annotations

import sys
import time

from benchmarks.ranks import Training
from sparsenet.data import SparseDataset
from sparsenet.training.mpi import world
from sparsenet.training.ranks import Ranks


def main(path: str, loss: str, shards: str, quick: str = "") -> None:
    with world() as here, SparseDataset.open(path) as dataset:
        ranks = Ranks(here.rank, here.size, int(shards), here.link)
        training = Training(dataset, loss, int(shards), bool(quick), ranks)
        while word := ranks.from_first(lambda: sys.stdin.readline().strip()):
            ranks.wait()
            begun = time.perf_counter()
            if word == "step":
                training.step()
            ranks.wait()
            seconds = time.perf_counter() - begun
            if ranks.first:
                print(seconds if word == "step" else training.digest(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
