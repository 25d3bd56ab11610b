"""How fast the search page answers, many users at once: the 95th percentile of a query over real connections.

    python -m benchmarks.search_page psb/meshes                              # one after the other, then 20 at a time
    python -m benchmarks.search_page meshes/ --queries 400 --at-once 20 --workers 4

The queries are meshes of the folder itself, and each answer is checked: the mesh must find itself at distance 0.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from sparsenet.info import processor_name
from sparsenet.serve import Gallery, Limits, open_gallery
from sparsenet.serve.running import started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of meshes")
    parser.add_argument("--model", default="modelnet40", help="a model's name, or a checkpoint (default: modelnet40)")
    parser.add_argument("--queries", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument("--at-once", type=int, default=20, metavar="N", help="users (default: 20)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes of the server (default: 2)")
    args = parser.parse_args()
    gallery = open_gallery(args.folder, args.model)
    rows = np.linspace(0, len(gallery) - 1, args.queries).astype(int).tolist()
    with started(gallery, limits=Limits(waiting=max(32, args.at_once)), workers=args.workers) as server:
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        for row in rows[:4]:
            query(server.port, gallery, row)
        print(f"{processor_name()}, {os.cpu_count()} cores")
        print(f"{len(gallery):,} shapes, {len(rows)} queries, {args.workers} processes")
        print(f"{'at once':>7} {'p50, ms':>8} {'p95, ms':>8} {'max, ms':>8} {'queries/s':>9}")
        for users in (1, args.at_once):
            begun = time.perf_counter()
            with ThreadPoolExecutor(users) as threads:
                seconds = list(threads.map(lambda row: query(server.port, gallery, row), rows))
            rate = len(rows) / (time.perf_counter() - begun)
            p50, p95, most = 1000 * np.percentile(seconds, [50, 95, 100])
            print(f"{users:>7} {p50:>8.0f} {p95:>8.0f} {most:>8.0f} {rate:>9.1f}", flush=True)
        server.close()
        thread.join(10)


def query(port: int, gallery: Gallery, row: int) -> float:
    """The seconds of one upload, from its connection to the last byte of the answer, which is checked."""
    body = Path(gallery.places[row].path).read_bytes()
    begun = time.perf_counter()
    with closing(HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request("POST", "/api/search", body, {"Origin": f"http://127.0.0.1:{port}",
                                                         "Content-Type": "application/octet-stream"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    seconds = time.perf_counter() - begun
    if response.status != 200:
        raise RuntimeError(f"{gallery.names[row]}: {response.status}: {answer['error']}")
    order = np.frombuffer(base64.b64decode(answer["order"]), "<u4")
    distances = np.frombuffer(base64.b64decode(answer["distances"]), "<f4")
    if distances[order == row][0] > 1e-6:
        raise RuntimeError(f"{gallery.names[row]} finds itself at {distances[order == row][0]}, expected 0")
    return seconds


if __name__ == "__main__":
    main()
