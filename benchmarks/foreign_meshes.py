"""A model on meshes of another collection: accuracy on those classes of the Princeton Shape Benchmark that it has, too.

    python -m benchmarks.foreign_meshes modelnet40 psb/
    python -m benchmarks.foreign_meshes modelnet40 psb/ --shared-with furniture      # on the classes of both

The benchmark's meshes lie in any orientation, so they are classified twice: as they lie, and with the up axis unknown,
which tries six directions and takes the one that the model is surest of.  The last line is the retrieval of meshes of
their class by the descriptors of `sparsenet search FOLDER`, as they lie.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from sparsenet.data.psb import read_cla
from sparsenet.models import classify, describe, load_pretrained
from sparsenet.models.folder import TURNS
from sparsenet.retrieval import evaluate

# Class of the benchmark -> the classes of ModelNet40 that are right for it
MODELNET40: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("biplane", "commercial", "fighter_jet", "glider", "stealth_bomber", "F117", "multi_fuselage"),
                    ("airplane",)),
    **dict.fromkeys(("sedan", "sports_car", "race_car", "antique_car"), ("car",)),
    **dict.fromkeys(("dining_chair", "desk_chair"), ("chair",)),
    **dict.fromkeys(("door", "double_doors"), ("door",)),
    **dict.fromkeys(("acoustic_guitar", "electrical_guitar"), ("guitar",)),
    **dict.fromkeys(("human", "human_arms_out", "walking"), ("person",)),
    **dict.fromkeys(("potted_plant", "bush", "flowers"), ("plant", "flower_pot")),
    **dict.fromkeys(("rectangular", "single_leg", "round"), ("table",)),
    **dict.fromkeys(("desk_with_hutch", "school_desk"), ("desk",)),
    **dict.fromkeys(("one_peak_tent", "multiple__peak_tent"), ("tent",)),
    "bed": ("bed",), "bench": ("bench",), "bottle": ("bottle",), "mug": ("cup",), "desk_lamp": ("lamp",),
    "laptop": ("laptop",), "computer_monitor": ("monitor",), "piano": ("piano",), "sink": ("sink",),
    "couch": ("sofa",), "staircase": ("stairs",), "stool": ("stool",), "shelves": ("bookshelf",), "vase": ("vase",),
}
# Class of the benchmark -> that of the furniture
FURNITURE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("sedan", "sports_car", "race_car", "antique_car"), ("car",)),
    **dict.fromkeys(("dining_chair", "desk_chair", "stool"), ("chair",)),
    **dict.fromkeys(("door", "double_doors"), ("door",)),
    **dict.fromkeys(("human", "human_arms_out", "walking"), ("person",)),
    **dict.fromkeys(("potted_plant", "bush", "flowers"), ("plant",)),
    **dict.fromkeys(("rectangular", "single_leg", "round", "desk_with_hutch", "school_desk"), ("table",)),
    **dict.fromkeys(("bottle", "mug", "vase"), ("vessel",)),
    "bed": ("bed",), "desk_lamp": ("lamp",), "sink": ("bathroom fixture",), "couch": ("sofa",), "shelves": ("cabinet",),
}


def matches(model: str) -> dict[str, tuple[str, ...]]:
    """Class of the benchmark -> the classes of a model that are right for it."""
    return FURNITURE if "vessel" in (load_pretrained(model).classes or ()) else MODELNET40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model's name, or a checkpoint")
    parser.add_argument("psb", type=Path, help="folder of the Princeton Shape Benchmark")
    parser.add_argument("--step", type=int, default=1, help="take each n-th mesh alone (default: 1)")
    parser.add_argument("--shared-with", metavar="MODEL", help="only the classes that this model has, too")
    args = parser.parse_args()
    net = load_pretrained(args.model)
    own = matches(args.model)
    shared = own.keys() & matches(args.shared_with).keys() if args.shared_with else own.keys()
    meshes = [(args.psb / "meshes" / f"m{model}.off", one.name) for split in ("train", "test")
              for one in read_cla(args.psb / f"{split}.cla") if one.name in shared for model in one.models]
    meshes = meshes[::args.step]
    right: dict[str, Counter[str]] = {"as they lie": Counter(), "up axis unknown": Counter()}
    total: Counter[str] = Counter()
    for path, name in meshes:
        total[name] += 1
        for how, axis in (("as they lie", "z"), ("up axis unknown", "unknown")):
            right[how][name] += classify(net, path, axis).label in own[name]
    print(f"{'class':<20} {'meshes':>6} {'as they lie':>12} {'up unknown':>12}")
    for name in sorted(total):
        print(f"{name:<20} {total[name]:>6} "
              f"{' '.join(f'{right[how][name] / total[name]:>12.1%}' for how in right)}")
    print(f"{'all':<20} {len(meshes):>6} "
          f"{' '.join(f'{sum(counts.values()) / len(meshes):>12.1%}' for counts in right.values())}")
    vectors = [describe(net, [net.voxelization.read(path, "z")], TURNS)[0][0] for path, _ in meshes]
    scores = evaluate(np.array(vectors), [sorted(total).index(name) for _, name in meshes])
    print(f"mAP of the descriptors {scores.mAP:.2%}, nearest neighbour {scores.NN:.2%}, chance {scores.chance:.2%}")


if __name__ == "__main__":
    main()
