"""Files besides the checkout for a GPU machine without a network: real shapes and peers.

    psb.h5          meshes of the Princeton Shape Benchmark     pack_meshes
    modelnet40.h5   ModelNet40 as 30^3 voxels                   pack_modelnet40
    peers.tar.xz    spconv and what it imports, from wheels     pack_peers, unpack_peers

The folder is made on a machine with the data and a network, and is never committed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

MESHES, MODELNET40, PEERS = "psb.h5", "modelnet40.h5", "peers.tar.xz"
MESH_COUNT = 512
# For Python 3.12 and torch on a machine that has pybind11 and portalocker; the CUDA runtime is linked into them.
WHEELS = ("spconv-cu126==2.3.8", "cumm-cu126==0.7.11", "pccm==0.4.16", "ccimport==0.4.4", "fire==0.7.1",
          "termcolor==3.3.0", "lark==1.3.1")
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_PYTHON = "3.12"
_LEFT_OUT = (".a",)  # needed only for linking


class PackError(RuntimeError):
    """The requested shapes or peers cannot be packed; the message says why."""


def data_root() -> Path:
    """The folder of real data.  Raises PackError if SPARSENET_DATA names none."""
    root = Path(os.environ.get("SPARSENET_DATA") or "/nowhere")
    if not root.is_dir():
        raise PackError("pack: SPARSENET_DATA is not a folder, expected the folder with the real shapes")
    return root


def pack_meshes(folder: Path, count: int = MESH_COUNT) -> Path:
    """Pack `count` random meshes of the training classes, always the same ones."""
    from benchmarks.shapes import import_psb

    folder.mkdir(parents=True, exist_ok=True)
    import_psb(data_root() / "psb", folder / MESHES, count)
    return folder / MESHES


def pack_modelnet40(folder: Path) -> Path:
    """Pack all its objects in all poses."""
    from sparsenet.data.modelnet40 import import_modelnet40_voxels

    folder.mkdir(parents=True, exist_ok=True)
    import_modelnet40_voxels(data_root() / "modelnet40_voxels30", folder / MODELNET40)
    return folder / MODELNET40


def pack_peers(folder: Path, wheels: Sequence[str] = WHEELS,
               run: Callable[[Sequence[str]], object] = lambda command: subprocess.run(command, check=True)) -> Path:
    """Download wheels, unpack them together and compress them with xz.

    Raises PackError if pip does not find one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                   "--python-version", _PYTHON, "--implementation", "cp", "--dest", scratch]
        try:
            run([*command, *(f"--platform={platform}" for platform in _PLATFORMS), *wheels])
        except subprocess.CalledProcessError as error:
            raise PackError(f"pack: pip does not find all of {', '.join(wheels)}: see its output above") from error
        with tarfile.open(folder / PEERS, "w:xz", preset=9) as packed:
            for path in sorted(Path(scratch).glob("*.whl")):
                with zipfile.ZipFile(path) as wheel:
                    for name in wheel.namelist():
                        if not name.endswith(_LEFT_OUT):
                            packed.add(wheel.extract(name, scratch), name, recursive=False)
    return folder / PEERS


def folder_bytes(folder: Path) -> int:
    """The bytes of its files."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def checkout_bytes(root: Path) -> int:
    """The bytes of the files that git tracks, weights included."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    return sum((root / name).stat().st_size for name in listed.split("\0") if (root / name).is_file())


def unpack_peers(folder: Path, target: Path) -> None:
    """Unpack the peers into a folder for PYTHONPATH."""
    with tarfile.open(folder / PEERS) as packed:
        packed.extractall(target, filter="data")
