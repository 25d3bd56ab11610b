"""The stated bounds of the dependencies: the whole suite with the lowest and with the newest versions.

    python tests/campaign/bounds.py lowest python3.11
    python tests/campaign/bounds.py newest python3.13

Makes an environment with that interpreter, installs the package with the extras plot and test, each dependency in
the lowest version that the package's metadata allow (or the newest there is), and runs the tests.  Ends with the
exit code of pytest.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = ("plot", "test")
LIST = """
import json
from importlib.metadata import requires, version
print(json.dumps([requires("sparsenet"), version("sparsenet")]))
"""


def lowest(requirements: list[str]) -> list[str]:
    """`NAME==VERSION` of each requirement of the package and of EXTRAS."""
    pins = []
    for line in requirements:
        requirement, _, condition = line.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", condition)
        if extra and extra.group(1) not in EXTRAS:
            continue
        name, version = re.fullmatch(r"([\w-]+)>=([\w.]+)", requirement.strip()).groups()
        pins.append(f"{name}=={version}")
    return pins


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("end", choices=("lowest", "newest"))
    parser.add_argument("python", help="interpreter, such as python3.12")
    parser.add_argument("tests", nargs="*", help="arguments of pytest (default: the whole suite)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([arguments.python, "-m", "venv", folder], check=True)
        python = str(Path(folder) / "bin/python")
        install = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, f"{ROOT}[{','.join(EXTRAS)}]"], check=True)
        if arguments.end == "lowest":
            listed = subprocess.run([python, "-c", LIST], capture_output=True, text=True, check=True, cwd=folder)
            subprocess.run([*install, *lowest(json.loads(listed.stdout)[0])], check=True)
        listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True,
                                check=True)
        versions = {one["name"].lower(): one["version"] for one in json.loads(listed.stdout)}
        told = ("numpy", "numba", "h5py", "trimesh", "tqdm", "threadpoolctl", "matplotlib", "pytest", "hypothesis",
                "scikit-learn")
        done = subprocess.run([python, "-P", "-m", "pytest", "-q", *arguments.tests], cwd=ROOT, check=False)
        print(f"bounds: {arguments.end} on {arguments.python}: exit code {done.returncode}; "
              + ", ".join(f"{name} {versions.get(name, '-')}" for name in told))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
