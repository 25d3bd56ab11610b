"""The shapes that are searched: names, classes, descriptors, and where each of them lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.retrieval import Index
from sparsenet.serve.desk import OfFile, Place, Recipe
from sparsenet.serve.drawing import base64_of

if TYPE_CHECKING:
    from sparsenet.models import FolderDescriptors
    from sparsenet.retrieval import Descriptors


@dataclass
class Gallery:
    """S shapes to search.

    title : what they are, for the page
    names : of the shapes;  vectors : (S, C)
    recipe : how a query is described, so that it can be compared with them
    places : of the shapes; empty if they cannot be drawn, `without_pictures` then says why
    classes, labels, probabilities : names; (S,) indices into them, -1 if unknown; (S,) float64, or None if the classes
        are given and not the network's
    metric : "cosine" or "l2"
    left_out : number of files that could not be read
    """

    title: str
    names: list[str]
    vectors: np.ndarray
    recipe: Recipe
    places: list[Place] = field(default_factory=list)
    without_pictures: str = ""
    classes: list[str] = field(default_factory=list)
    labels: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    metric: str = "cosine"
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.names)

    @property
    def model(self) -> str:
        """The name of the model, of a checkpoint the last two parts of its path."""
        return "/".join(Path(self.recipe.model).parts[-2:])

    @classmethod
    def of_folder(cls, found: FolderDescriptors, recipe: Recipe) -> Gallery:
        """The meshes of a folder.  Raises ValueError if none of them can be read."""
        if not len(found):
            raise ValueError(f"{found.folder}: none of its {len(found.unreadable)} mesh files can be read")
        places = [Place(str(found.folder / name)) for name in found.names]
        return cls(found.folder.name or str(found.folder), found.names, found.vectors, recipe, places, "",
                   found.classes, found.labels, found.probabilities if found.classes else None, "cosine",
                   len(found.unreadable))

    @classmethod
    def of_descriptors(cls, found: Descriptors, path: Path, model: str, metric: str, dataset: Path | None = None
                       ) -> Gallery:
        """The shapes of a file that `sparsenet embed` wrote.

        dataset : the file that the shapes are drawn from; default: the one that they were embedded from, if it is
            still there

        Raises ValueError if it has no shape, or the dataset that was named is not theirs.
        """
        from sparsenet.data import SparseDataset

        if not len(found):
            raise ValueError(f"{path}: it has no shape")
        settings = OfFile(found.render_size, found.fill, found.up_axis, found.layer, found.output)
        source, reason = dataset or Path(found.dataset), ""
        if not found.dataset and dataset is None:
            reason = "The file of descriptors does not say which dataset its shapes are from."
        elif not source.is_file() and dataset is None:
            reason = f"The dataset of the shapes, {source.name}, is no longer where it was."
        else:
            with SparseDataset.open(source) as shapes:
                samples = np.asarray(found.samples)
                if samples.max() >= len(shapes) or (shapes.names[samples] != found.names).any():
                    reason = f"The dataset {source.name} is not the one that the shapes were embedded from."
        if reason and dataset is not None:
            raise ValueError(f"{source}: {reason[0].lower()}{reason[1:-1]}")
        places = [] if reason else [Place(str(source.absolute()), int(sample)) for sample in np.asarray(found.samples)]
        return cls(path.stem, found.names.tolist(), found.vectors, Recipe(model, found.up_axis, None, settings), places,
                   reason, found.classes, found.labels, None, metric)

    @cached_property
    def index(self) -> Index:
        index = Index(self.metric)
        index.add(self.vectors)
        return index

    def ranked(self, vector: np.ndarray) -> dict[str, str]:
        """All shapes by their distance from a descriptor (C,), nearest first.

        Returns
        -------
        order : base64 of uint32 (S,), rows;  distances : base64 of float32 (S,)
        """
        (distances,), (rows,) = self.index.search(vector[None], len(self))
        return {"order": base64_of(rows.astype(np.uint32)), "distances": base64_of(distances.astype(np.float32))}

    def facts(self) -> dict[str, Any]:
        """All that the page knows of the shapes."""
        labels = [-1] * len(self) if self.labels is None else self.labels.tolist()
        return {"title": self.title, "model": self.model, "names": self.names, "classes": self.classes,
                "labels": labels,
                "probabilities": None if self.probabilities is None else self.probabilities.round(4).tolist(),
                "metric": self.metric, "left_out": self.left_out, "pictures": bool(self.places),
                "without_pictures": self.without_pictures}
