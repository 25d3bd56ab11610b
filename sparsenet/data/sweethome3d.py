"""Imports the free furniture of Sweet Home 3D's libraries, such as those in Debian's package sweethome3d-furniture.

A model of a library names its room, which says little about its shape; its class here follows from its name.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sparsenet.data.convert import DEFAULT, Conversion, MeshEntry, convert_meshes
from sparsenet.data.furniture_library import Furniture, credits_text, find_libraries, read_furniture, read_library
from sparsenet.data.holdout import lowest_draws
from sparsenet.data.import_report import ImportReport
from sparsenet.files import write_text
from sparsenet.wording import counted, listed

# The classes of shapes, by words in a model's name, its tags or its category: the first rule that applies decides, and
# "" is no class.  Each class has 15 or more models in Debian's package, version 1.8.
RULES: tuple[tuple[str, str, str], ...] = (
    # what the words below would put into a wrong class
    ("", "name", "table fan|table tennis bat|elevator door|wheelchair|workbench|doll house|toilet brush|toilet paper|"
                 "spray bottle|flower box|plant box|cosmetics pot|cup cake|knife stand|cutlery|sunglasses|glasses|"
                 "window shutter|window blind|hedge|flashlight|candle|stone lantern|ottoman|induction cooker"),
    ("bed", "name", "bed|crib|opened convertible sofa"),
    ("bathroom fixture", "name", "washbasin|vanity|sink|lavatory|toilets unit|bidet|urinal|bath|bathtub"),
    ("appliance", "name", "fridge|refrigerator|freezer|oven|stove|cooker|microwave|washing machine|dryer machine"),
    ("lamp", "category", "lights"),
    ("person", "tags", "human"),
    ("car", "name", "car|sedan|truck|bus|van|suv"),
    ("car", "tags", "car"),
    ("sofa", "name", "sofa|couch"),
    ("chair", "name", "chair|armchair|stool|class seat"),
    ("cabinet", "name", "cabinet|cupboard|wardrobe|dresser|locker|chest|bookcase|shelves|island|tv stand|"
                        "bedside table|changing table"),
    ("table", "name", "table|desk"),
    ("window", "name", "window"),
    ("door", "name", "door"),
    ("plant", "tags", "plant|tree|flowers"),
    ("vessel", "name", "bottle|glass|cup|mug|vase|jar|pot|pottery|bowl|flacon|teapot|kettle|creamer|sugar"),
    ("plant", "name", "plant|tree|flowers|bush|cactus|orchids|tulips?|lily|bamboo|yucca|spathiphyllum"),
    ("tool", "name", "tool|comb|brush|pencil|marker|ruler|scissors|knife"),
    ("tool", "tags", "tool|cutlery"),
)
SAME = 0.95  # intersection over union of the cells of two models of a class from which on they count as one shape


def shape_class(model: Furniture) -> str:
    """The class of a model's shape, by RULES; "" if it has none."""
    fields = {"name": model.name.lower(), "tags": model.tags.lower(), "category": model.category.lower()}
    return next((label for label, field, words in RULES if re.search(rf"\b(?:{words})\b", fields[field])), "")


def import_sweethome3d(source: str | os.PathLike, destination: str | os.PathLike, conversion: Conversion = DEFAULT,
                       test_share: float = 0.2, validation_share: float = 0.0, seed: int = 0,
                       credits: str | os.PathLike | None = None) -> ImportReport:
    """Import the models of furniture libraries that have a free licence and a class of shapes (see `RULES`).

    Free are Creative Commons Zero and Attribution, as the text beside a model states, or that of its library if there
    is none.  Refused models are named in the report with the reason; those without a class are named in a remark.

    Models of a class that are one shape, such as a window with more bars than another, are in one split: those
    whose cells have an intersection over union of 0.95 or more, and those alike to the same third one.  Splits are
    drawn by (seed, name); the test split does not depend on validation_share.

    Parameters
    ----------
    source : a .sh3f file, or a folder that has such files or unpacked libraries, searched recursively
    test_share, validation_share : of each class, rounded; the rest is in "train"
    credits : file to which the creators of the imported models are written, by library and licence

    Raises
    ------
    FileNotFoundError : the source does not exist or has no library.
    ValueError : a part is asked for, a library is damaged, the shares are negative or leave nothing for training, a
        model is refused and `conversion.strict` is set, or no model is usable; see also `convert_meshes`.
    """
    if conversion.part is not None:
        raise ValueError("import: furniture libraries cannot be imported in parts, as models of one shape share a "
                         "split: leave out --part and mpirun")
    if min(test_share, validation_share) < 0 or test_share + validation_share >= 1:
        raise ValueError(f"import: test_share is {test_share} and validation_share is {validation_share}, expected 0 "
                         "or more, and less than 1 together")
    models = [model for library in find_libraries(source) for model in read_library(library)]
    report = ImportReport(Path(destination), 0)
    for model in models:
        if model.problem:
            report.failures.append((f"{model.library}, {model.model}", model.problem))
    if conversion.strict and report.failures:
        raise ValueError(f"import: {': '.join(report.failures[0])}")
    free = [model for model in models if not model.problem]
    used = [model for model in free if shape_class(model)]
    if not used:
        raise ValueError(f"import: none of {counted(len(models), 'model')} in {source} has a free licence and a class")
    report.remarks += _remarks(free, used)
    classes = sorted({shape_class(model) for model in used})
    entries = [MeshEntry(partial(read_furniture, model.library, model.model, model.rotation), model.key,
                         classes.index(shape_class(model)), None, f"{model.library}, {model.model}", "y")
               for model in used]
    splits = ShapeSplits(test_share, validation_share, seed)
    convert_meshes(entries, destination, classes, conversion, report, splits.draw, watch=splits.watch)
    alike = counted(splits.alike, "model is", "models are")
    report.remarks.append(f"{alike} nearly the shape of another of the class, in the same split")
    if credits is not None:
        write_text(credits, credits_text([model for model in used if model.key in splits.names]))
    return report


class ShapeSplits:
    """Draws the splits of entries so that entries that are one shape stay together.

    alike : number of entries that are one shape with an earlier one
    names : of the entries seen
    """

    def __init__(self, test_share: float, validation_share: float, seed: int):
        self.shares = {"test": test_share, "val": validation_share}
        self.seed = seed
        self.names: set[str] = set()
        self.alike = 0
        self._cells: dict[int, list[tuple[str, np.ndarray]]] = {}

    def watch(self, entry: MeshEntry, cells: np.ndarray) -> None:
        """Keep an entry's cells (n, 3)."""
        self.names.add(entry.name)
        rows = np.sort(cells.astype(np.int64) @ np.array([2**40, 2**20, 1], np.int64))
        self._cells.setdefault(entry.label, []).append((entry.name, rows))

    def draw(self, entries: Sequence[MeshEntry]) -> list[str]:
        """The split of each entry: of each class, whole shapes as drawn, as long as they do not exceed the share."""
        split_of: dict[str, str] = {}
        for members in self._cells.values():
            shapes = _one_shape(members)
            self.alike += len(members) - len(shapes)
            room = {split: round(share * len(members)) for split, share in self.shares.items()}
            for index in lowest_draws([names[0] for names in shapes], len(shapes), self.seed, "split"):
                names = shapes[index]
                split = next((split for split, left in room.items() if left >= len(names)), "train")
                if split in room:
                    room[split] -= len(names)
                split_of.update(dict.fromkeys(names, split))
        return [split_of[entry.name] for entry in entries]


def _one_shape(members: Sequence[tuple[str, np.ndarray]]) -> list[list[str]]:
    """The names of members in groups of one shape: linked by pairs of an intersection over union of SAME or more."""
    group = list(range(len(members)))
    for j, (_, second) in enumerate(members):
        for i, (_, first) in enumerate(members[:j]):
            smaller, larger = sorted((len(first), len(second)))
            if group[i] == group[j] or smaller < SAME * larger:
                continue
            both = len(np.intersect1d(first, second, assume_unique=True))
            if both >= SAME * (smaller + larger - both):
                old, new = max(group[i], group[j]), min(group[i], group[j])
                group = [new if number == old else number for number in group]
    return [[members[k][0] for k in range(len(members)) if group[k] == number] for number in sorted(set(group))]


def _remarks(free: Sequence[Furniture], used: Sequence[Furniture]) -> list[str]:
    """Lines about the licences of the models, and those without a class."""
    licences = Counter(model.licence for model in free)
    general = sum(not model.own_licence for model in free)
    lines = [f"licences: {', '.join(f'{licence} {count}' for licence, count in sorted(licences.items()))}; "
             f"{counted(general, 'model has', 'models have')} that of the library"]
    none = Counter(model.name for model in free if not shape_class(model))
    if none:
        names = [f"{name} ({count})" if count > 1 else name for name, count in sorted(none.items())]
        lines.append(f"{counted(none.total(), 'model has', 'models have')} no class of shapes: {listed(names, 40)}")
    return lines
