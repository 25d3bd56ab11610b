"""Joins the parts of a dataset to the file that one process would have written, bit for bit."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.data.convert import MeshEntry, filled_report, unusable
from sparsenet.data.import_report import ImportReport
from sparsenet.data.importers import SplitDrawer
from sparsenet.data.parts import Part, check_complete, read_record
from sparsenet.data.reader import DatasetReader
from sparsenet.data.sample import Sample
from sparsenet.data.writer import write_dataset


def join_datasets(destination: str | os.PathLike, paths: Sequence[str | os.PathLike]) -> ImportReport:
    """Write the dataset whose parts these files are, in any order.

    Returns the report of the whole import.

    Raises
    ------
    FileNotFoundError, ValueError : a file is missing, damaged or no part; a part is missing or given twice; they were
        made with different settings or from different files; no shape is usable.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(closing(DatasetReader(path))) for path in paths]
        records = [read_record(reader) for reader in readers]
        check_complete([(Part(record["number"], record["of"]), reader.path)
                        for record, reader in zip(records, readers, strict=True)])
        order = sorted(range(len(records)), key=lambda place: records[place]["number"])
        records, readers = [records[place] for place in order], [readers[place] for place in order]
        for record, reader in zip(records, readers, strict=True):
            if record["settings"] != records[0]["settings"]:
                raise ValueError(f"join: {reader.path} was made with other settings, or from other files, than "
                                 f"{readers[0].path}: make all parts with one command")
        return _join(destination, readers, records)


def _join(destination: str | os.PathLike, readers: list[DatasetReader], records: list[dict[str, Any]]) -> ImportReport:
    first, record = readers[0], records[0]
    report = ImportReport(Path(destination), 0, classes=list(first.classes), ignored=Counter(record["ignored"]),
                          without_class=list(record["without_class"]), remarks=list(record["remarks"]))
    noun = tuple(record["noun"])
    read: list[tuple[MeshEntry, bytes]] = []
    poses: list[int] = []
    for reader, own in zip(readers, records, strict=True):
        report.failures += [(source, reason) for source, reason in own["failures"]]
        report.up_axes.update({(axis, kind): count for axis, kind, count in own["up_axes"]})
        _, first_rows, counts = np.unique(reader.object, return_index=True, return_counts=True)
        poses += counts.tolist()
        read += [(MeshEntry(_never, str(name), int(label), str(split) or None, str(name)), bytes.fromhex(digest))
                 for name, label, split, digest in zip(reader.names[first_rows], reader.labels[first_rows],
                                                       reader.split[first_rows], own["digests"], strict=True)]
    report.failures[:0] = [(source, reason) for source, reason in record["found_failures"]]
    if not read:
        raise unusable(record["entries"], noun, report)
    drawer = None if record["draw"] is None else SplitDrawer(report, noun, *record["draw"])
    splits = filled_report(report, read, drawer, first.classes, poses)
    kept = next((reader.up_axis for reader in readers), None)
    write_dataset(destination, _samples(readers, splits), first.spatial_size, first.render_size, first.classes,
                  first.fill, kept, part_classes=first.part_classes)
    return report


def _samples(readers: list[DatasetReader], splits: list[str]) -> Iterator[Sample]:
    """The samples of all parts.  splits : of all objects, which each part numbers from 0"""
    before = 0
    for reader in readers:
        for row, own in enumerate(reader.object.tolist()):
            yield Sample(reader.coordinates(row), int(reader.labels[row]), str(reader.names[row]),
                         splits[before + own], before + own, int(reader.pose[row]), features=reader.features(row),
                         mesh=reader.mesh(row), site_labels=reader.site_labels(row))
        before += len(np.unique(reader.object))


def _never() -> Any:
    raise AssertionError("an entry of a part is not loaded again")
