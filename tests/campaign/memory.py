"""Two thousand steps with augmentation: resident memory and open files stay flat.

    python tests/campaign/memory.py --steps 2000

Trains a small network, with meshes turned, sheared and shifted, validation and checkpoints, and looks at the process
after each epoch of 20 steps.  Exit code 1 if resident memory ever exceeds its value after step 200 by more
than 2%, or if the number of open files grows.  Linux.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from sparsenet.training import load_config, train

SETTLED = 200  # steps, after which caches and pools are filled
MARGIN = 1.02
EPOCH = 20  # steps: ten classes of 40 shapes, of which a fifth validates, in batches of 16
SETTINGS = ("data.parametric_train=40", "data.parametric_test=4", "data.validation_share=0.2", "data.render_size=14",
            "network.channels=[4,8,12]", "training.batch_size=16", "training.validate_every=5",
            "training.checkpoint_seconds=5.0", "augmentation.rotation='so3'", "augmentation.affine=0.2",
            "augmentation.shift=0.2")


def look() -> tuple[int, int]:
    """Resident bytes and open files of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGESIZE"), len(os.listdir("/proc/self/fd"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    epochs = max(-(-steps // EPOCH), SETTLED // EPOCH + 1)
    looks = []
    with tempfile.TemporaryDirectory() as folder:
        train(load_config("quickstart", [*SETTINGS, f"training.epochs={epochs}"]), folder, progress=False,
              say=lambda line: looks.append(look()) if line.startswith("epoch ") else None)
    resident, files = zip(*looks[SETTLED // EPOCH - 1:], strict=True)
    print(f"memory: {len(looks) * EPOCH} steps; resident {resident[0] / 1e6:.1f} MB after step {SETTLED}, at most "
          f"{max(resident) / 1e6:.1f} MB later ({100 * (max(resident) / resident[0] - 1):+.2f}%); open files "
          f"{files[0]}, at most {max(files)}")
    return int(max(resident) > MARGIN * resident[0] or max(files) > files[0])


if __name__ == "__main__":
    sys.exit(main())
