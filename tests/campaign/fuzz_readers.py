"""Coverage-guided fuzzing of the mesh readers, with atheris (`pip install atheris`).

    python tests/campaign/fuzz_readers.py -atheris_runs=1000000 CORPUS
    python tests/campaign/fuzz_readers.py FAILED_FILE

The first byte of an input chooses the format.  An empty folder CORPUS is filled with small files of every
format first; libFuzzer adds to it what reaches new code, and stops at the first input that gives neither
geometry nor a MeshError, that takes 10 s, or 2 GB (options of libFuzzer, such as -jobs=2, are passed on).
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import atheris
import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from seeds import made_files  # noqa: E402

with atheris.instrument_imports(include=["sparsenet.shapes"]):
    from sparsenet.shapes import MeshError
    from sparsenet.shapes.reading import MESH_SUFFIXES, parse_mesh


def read_one_input(data: bytes) -> None:
    if len(data) < 2:
        return
    try:
        mesh = parse_mesh(data[1:], MESH_SUFFIXES[data[0] % len(MESH_SUFFIXES)])
    except MeshError as error:
        assert "\n" not in str(error)
        return
    assert len(mesh.faces) and np.isfinite(mesh.vertices).all() and mesh.faces.max() < len(mesh.vertices)


def main() -> None:
    warnings.simplefilter("error")
    for folder in (Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")):
        if folder.is_dir() and not any(folder.iterdir()):
            for name, data in made_files().items():
                suffixes = [suffix for suffix in MESH_SUFFIXES if suffix in Path(name).suffixes]
                (folder / name).write_bytes(bytes([MESH_SUFFIXES.index(suffixes[0])]) + data)
    atheris.Setup([*sys.argv, "-timeout=10", "-rss_limit_mb=2048"], read_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
