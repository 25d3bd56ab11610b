"""Packaging: pure Python, nothing is compiled."""

from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent

setup(
    name="sparsenet",
    version="0.1.0",
    description="Sparse 3D convolutional networks: exact, deterministic, nothing to compile, open to look into",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        "sparsenet",
        "sparsenet.cli",
        "sparsenet.configs",
        "sparsenet.data",
        "sparsenet.inspect",
        "sparsenet.inspect.page",
        "sparsenet.kernels",
        "sparsenet.nn",
        "sparsenet.ops",
        "sparsenet.retrieval",
        "sparsenet.shapes",
        "sparsenet.sparse",
        "sparsenet.training",
    ],
    # configs/ holds TOML files alone: a namespace package, which `find_config` reads.
    package_dir={"sparsenet": "sparsenet", "sparsenet.configs": "configs"},
    package_data={"sparsenet": ["py.typed"], "sparsenet.configs": ["*.toml"],
                  "sparsenet.inspect.page": ["*.html", "*.css", "*.js"],
                  "sparsenet.kernels": ["*.cu", "*.cuh", "*.toml"]},
    install_requires=[
        "numpy>=2.0",
        "numba>=0.62",
        "h5py>=3.11",
        "tqdm>=4.60",
        "threadpoolctl>=3.5",
    ],
    extras_require={
        "cuda12x": ["cupy-cuda12x[ctk]>=14"],
        "cuda13x": ["cupy-cuda13x[ctk]>=14"],
        "plot": ["matplotlib>=3.9"],
        "inspect": ["plotly>=5.20"],
        "test": ["pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100", "scikit-learn>=1.5", "selenium>=4.20",
                 "trimesh>=4.4"],
        "kernel-test": ["nvidia-cuda-nvrtc-cu12>=12.8", "nvidia-cuda-nvrtc>=13"],  # compile, without a GPU
        "docs": ["mkdocs-material>=9", "mkdocstrings[python]>=0.25"],
        "dev": ["coverage>=7.10", "mypy>=1.10", "ruff>=0.6"],
    },
    classifiers=[
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
