"""Twenty threads from a cold start: fresh processes without a compiled kernel, which all threads ask for at once.

    python tests/campaign/cold_start.py --rounds 10

In each process twenty threads voxelize a mesh, run a network forward and backward on it and search among
descriptors.  All must get the same bits.  Exit code 1 after a failure.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

THREADS = 20
CHILD = f"""
import hashlib, threading
import numpy as np
import sparsenet as sn
from sparsenet.retrieval import Index

mesh = sn.shapes.Mesh(np.array([[0., 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
                      np.array([[0, 1, 2], [0, 1, 3], [1, 2, 3]], np.int32))
start, digests, faults = threading.Barrier({THREADS}), set(), []

def work():
    try:
        net = sn.s3dcnn(10, channels=(8, 12, 16))
        net.reseed(1, 2, 3)
        start.wait()
        cells, features = sn.Off3DPicture(mesh, 12).voxelize((14, 14, 14))
        x = sn.SparseTensor(features, np.insert(cells, 0, 0, axis=1), (14, 14, 14), 1)
        loss = sn.ops.softmax_cross_entropy(net(x), np.array([3]))
        loss.backward()
        index = Index()
        index.add(np.eye(8, dtype=np.float32))
        bits = [p.grad.tobytes() for p in net.parameters()]
        bits += [part.tobytes() for part in index.search(np.ones((1, 8), np.float32), 3)]
        digests.add(hashlib.sha256(b"".join(bits)).hexdigest())
    except BaseException as error:
        faults.append(f"{{type(error).__name__}}: {{error}}")

threads = [threading.Thread(target=work) for _ in range({THREADS})]
for one in threads: one.start()
for one in threads: one.join()
print(faults[0] if faults else f"{{len(digests)}} results")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    failures = 0
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cold:
            environment = {**os.environ, "NUMBA_CACHE_DIR": cold, "PYTHONPATH": os.pathsep.join(sys.path)}
            done = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True,
                                  timeout=600, check=False)
        if done.stdout.strip() != "1 results":
            failures += 1
            print(done.stdout.strip() or done.stderr.strip()[-500:], flush=True)
    print(f"cold_start: {rounds} processes of {THREADS} threads without compiled kernels, {failures} failures")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
