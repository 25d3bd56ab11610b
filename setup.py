"""The packages, found; all else is in pyproject.toml.

configs/ lies beside the package and holds TOML files alone: it becomes `sparsenet.configs`, a namespace package that
`find_config` reads.
"""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["sparsenet", "sparsenet.*"]), "sparsenet.configs",
                "sparsenet.configs.ablation", "sparsenet.configs.paper"],
      package_dir={"sparsenet": "sparsenet", "sparsenet.configs": "configs",
                   "sparsenet.configs.ablation": "configs/ablation", "sparsenet.configs.paper": "configs/paper"})
