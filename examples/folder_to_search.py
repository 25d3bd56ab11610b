#!/usr/bin/env python3
"""Lesson 5: from a folder of meshes to a ranked search.

    python examples/folder_to_search.py --out pictures
    python examples/folder_to_search.py --meshes shapes/ --query chair.off --out pictures
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import sparsenet as sn
from sparsenet.data.convert import Conversion
from sparsenet.data.importers import import_folder
from sparsenet.quickstart import write_off
from sparsenet.random import keyed_rng
from sparsenet.shapes import parametric_mesh

RENDER_SIZE, CHANNELS, EPOCHS = 14, (8, 16, 32), 8  # small, to run in seconds; the paper: 40, 32 to 192, 200


def main(out: Path, meshes: Path | None = None, query: Path | None = None) -> None:
    # 1. A folder of meshes, one subfolder for each class: shapes/chair/0.off, ...  By default, some
    #    parametric furniture is generated.
    if meshes is None:
        meshes = out / "shapes"
        for name in ("bed", "chair", "lamp", "mug", "table"):
            (meshes / name).mkdir(parents=True, exist_ok=True)
            for number in range(16):
                mesh = parametric_mesh(name, keyed_rng(0, name, number))
                write_off(meshes / name / f"{number:02}.off", mesh)

    # 2. Import into one HDF5 file: the voxels of each surface, its class and its split.
    report = import_folder(meshes, out / "shapes.h5", Conversion(RENDER_SIZE, progress=False))
    print(report)
    shapes = sn.SparseDataset.open(out / "shapes.h5")
    train, test = shapes.subset("train"), shapes.subset("test")
    print(f"{len(train)} shapes for training, {len(test)} for testing, of {len(shapes.classes)} classes")

    # 3. A small S3DCNN.  Its field is the input grid that it reduces to one cell; shapes are centred in it.
    net = sn.s3dcnn(len(shapes.classes), seed=1, channels=CHANNELS)
    print(f"\nA field of {net.field}, {net.parameter_count():,} weights and biases")

    # 4. The training loop in full: batches, loss, gradients, steps.
    optimizer = sn.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    prepared = {"field": net.field, "geometries": net.geometries()}  # the loader builds rulebooks in advance
    for epoch in range(EPOCHS):
        losses = []
        for batch in train.batches(16, shuffle=True, seed=1, epoch=epoch, **prepared):
            net.zero_grad()
            loss = sn.ops.softmax_cross_entropy(net(batch.input), batch.labels)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.array))
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}")

    # 5. Does it classify unseen shapes?
    predicted = net.predict(test).argmax(axis=1)
    print(f"\n{(predicted == test.object_labels).sum()} of {len(test)} test shapes are classified correctly")

    # 6. Descriptors: the output before the classifier, one vector for each shape.
    descriptors = sn.retrieval.Descriptors.of(net, shapes)
    evaluation = sn.retrieval.evaluate(descriptors.vectors, descriptors.labels)
    print("Each shape (training shapes too) as a query, the others ranked by the angle between descriptors:\n"
          f"{evaluation}")

    # 7. A mesh outside the dataset, and the shapes most similar to it.
    label = ""
    if query is None:
        query, label = out / "query.off", "chair"
        write_off(query, parametric_mesh("chair", keyed_rng(0, "query")))
    found = sn.retrieval.find_similar(net, query, descriptors, k=5, name=query.name)
    print(f"\nThe shapes nearest to {query}:\n{found}")

    # 8. Figures.
    cells = [shapes.voxels(i)[0] for i in range(len(shapes))]
    figures = {
        "found.png": found.picture(label=label),
        "map.png": sn.inspect.descriptor_map(descriptors.vectors, descriptors.labels, shapes.classes, cells),
        "confusion.png": sn.inspect.confusion_matrix(test.object_labels, predicted, shapes.classes),
        "precision_recall.png": sn.inspect.precision_recall({"all shapes": evaluation}),
    }
    for name, figure in figures.items():
        sn.inspect.save_figure(figure, out / name)
    print(f"\nPictures in {out}: {', '.join(figures)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for files and pictures (default: a new temporary one)")
    parser.add_argument("--meshes", type=Path, help="folder of meshes, one subfolder per class (default: generated)")
    parser.add_argument("--query", type=Path, help="mesh to search with (default: generated)")
    arguments = parser.parse_args()
    folder = arguments.out or Path(tempfile.mkdtemp(prefix="sparsenet-"))
    folder.mkdir(parents=True, exist_ok=True)
    main(folder, arguments.meshes, arguments.query)
