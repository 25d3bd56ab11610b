"""A model on the held-out meshes of the furniture: accuracy by class, and the mAP of both kinds of descriptors.

    python -m benchmarks.furniture_meshes furniture furniture.h5
    python -m benchmarks.furniture_meshes modelnet40 furniture.h5        # on the classes that it has in some form

Each mesh is classified as `sparsenet classify` does, by the mean over the model's poses.  The descriptors are those of
`sparsenet search FOLDER`, the mean of three poses as directions.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from sparsenet.data import SparseDataset
from sparsenet.models import classify, describe, load_pretrained
from sparsenet.models.folder import TURNS
from sparsenet.retrieval import evaluate

# Class of the furniture -> the classes of ModelNet40 that are right for it; the others it does not have
MODELNET40: dict[str, tuple[str, ...]] = {
    "bathroom fixture": ("bathtub", "sink", "toilet"), "bed": ("bed",), "car": ("car",), "chair": ("chair", "stool"),
    "cabinet": ("bookshelf", "dresser", "night_stand", "tv_stand", "wardrobe"), "door": ("door",), "lamp": ("lamp",),
    "person": ("person",), "plant": ("flower_pot", "plant"), "sofa": ("sofa",), "table": ("desk", "table"),
    "vessel": ("bottle", "bowl", "cup", "vase"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model's name, or a checkpoint")
    parser.add_argument("dataset", help="of `sparsenet make-dataset sweethome3d ... --keep-meshes`")
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument("--turns", type=int, metavar="N", help="poses that are averaged (default: the model's)")
    parser.add_argument("--shared", action="store_true", help="only the classes that both models have")
    args = parser.parse_args()
    net = load_pretrained(args.model)
    with SparseDataset.open(args.dataset) as whole:
        part = whole.subset(args.split)
        own = {name: (name,) for name in part.classes} if "vessel" in (net.classes or ()) else MODELNET40
        kept = [k for k in range(len(part)) if part.classes[part.labels[k]] in own
                and (not args.shared or part.classes[part.labels[k]] in MODELNET40)]
        labels = part.labels[kept]
        names = [part.classes[label] for label in labels]
        meshes = [part.mesh(k) for k in kept]
    found = [classify(net, mesh, turns=args.turns) for mesh in meshes]
    right, total = Counter(), Counter(names)
    taken: Counter[tuple[str, str]] = Counter()
    for name, one in zip(names, found, strict=True):
        right[name] += one.label in own[name]
        if one.label not in own[name]:
            taken[name, one.label] += 1
    print(f"{'class':<20} {'meshes':>6} {'right':>7}  taken for")
    for name in sorted(total):
        wrong = ", ".join(f"{other} {count}" for (which, other), count in sorted(taken.items()) if which == name)
        print(f"{name:<20} {total[name]:>6} {right[name] / total[name]:>7.1%}  {wrong}".rstrip())
    mean = np.mean([right[name] / total[name] for name in total])
    print(f"{'all':<20} {len(names):>6} {right.total() / len(names):>7.1%}  mean over classes {mean:.1%}")
    order = net.classes or []
    posterior = np.array([[dict(zip(one.classes, one.probabilities, strict=True))[name] for name in order]
                          for one in found])
    vectors, _ = describe(net, meshes, args.turns or min(TURNS, net.voxelization.turns))
    for what, rows in (("descriptors", vectors), ("class probabilities", posterior)):
        scores = evaluate(rows, labels)
        print(f"mAP of the {what}: {scores.mAP:.2%}, nearest neighbour {scores.NN:.2%}, chance {scores.chance:.2%}")


if __name__ == "__main__":
    main()
