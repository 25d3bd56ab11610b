"""The result of an import, in figures and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sparsenet.files import size_text
from sparsenet.wording import aligned, counted, listed

_ORDER = ("train", "val", "test")  # of the table's columns; other splits follow by name
_LISTED = 20  # names written out in one message


@dataclass
class ImportReport:
    """The result of an importer; `str` tells all of it.

    path : the dataset file;  samples : how many it holds
    failures : (source, reason) of each mesh that could not be used
    classes : the class names, empty if nothing is labelled
    counts : (class, split) -> how many samples; the class is None for what has no label
    duplicates : lists of (split, name) of samples with the same content
    up_axes : (axis, format) -> how many files, such as ("y", ".obj"); empty if there were no files
    ignored : kind of file -> how many were passed over
    without_class : names of meshes that lie in no class, and were left out
    remarks : lines about how the import was understood, such as its layout
    """

    path: Path
    samples: int
    failures: list[tuple[str, str]] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    counts: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    duplicates: list[list[tuple[str, str]]] = field(default_factory=list)
    up_axes: Counter[tuple[str, str]] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    without_class: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([*self.lines(), *self.warnings()])

    def lines(self) -> list[str]:
        """The file, what is in it, and how that came about."""
        lines = [f"{self.path}: {counted(self.samples, 'sample')}, {size_text(self.path.stat().st_size)}",
                 *self.remarks]
        if self.up_axes:
            lines.append(f"up axis: {', '.join(self._axes_in_words())}")
        lines += self.table().splitlines()
        again = sum(len(group) - 1 for group in self.duplicates)
        lines.append(f"ignored {counted(self.ignored.total(), 'file')}{kinds_in_words(self.ignored)}; "
                     f"unreadable: {len(self.failures)}; same content as an earlier sample: {again}")
        return lines

    def warnings(self) -> list[str]:
        """What the user should look at: meshes left out, duplicates in two splits, mixed up axes."""
        found = []
        if self.failures:
            found.append(f"left out {counted(len(self.failures), 'file or folder', 'files or folders')} that cannot be "
                         "used:")
            found += [f"  {source}: {reason.removeprefix(f'{source}: ')}" for source, reason in self.failures]
        if self.without_class:
            meshes = counted(len(self.without_class), "mesh that lies", "meshes that lie")
            found.append(f"left out {meshes} in no class folder (unlabelled, --unlabelled, takes all): "
                         f"{listed(self.without_class, _LISTED)}")
        shared = [group for group in self.duplicates if len({split for split, _ in group}) > 1]
        if shared:
            pairs = [_across_splits(group) for group in shared]
            shapes = counted(len(shared), "shape has", "shapes have")
            found.append(f"warning: {shapes} the same content in two splits, so the test is partly of what was trained "
                         f"on: {listed(pairs, _LISTED)}")
        if len({axis for axis, _ in self.up_axes}) > 1:
            found.append("warning: the up axes are mixed, and were guessed from the formats: if all the files stand "
                         "along one axis, say which (up_axis, on the command line --up-axis y or z)")
        return found

    def table(self) -> str:
        """Classes x splits, in samples."""
        return table_of(self.counts, self.classes)

    def _axes_in_words(self) -> list[str]:
        words = []
        for axis, what in (("y", "turned upright, to z"), ("z", "left as they stand")):
            kinds = Counter({kind: count for (own, kind), count in self.up_axes.items() if own == axis})
            if kinds:
                words.append(f"{axis} for {counted(kinds.total(), 'file')}{kinds_in_words(kinds)}, {what}")
        return words


def table_of(counts: Counter[tuple[str | None, str]], classes: Sequence[str]) -> str:
    """A table of classes x splits.

    counts : (class, split) -> how many samples; the class is None for what has no label
    """
    splits = sorted({split for _, split in counts}, key=lambda split: (
        _ORDER.index(split) if split in _ORDER else len(_ORDER), split))
    names: list[str | None] = [*classes]
    if any(label is None for label, _ in counts):
        names.append(None)
    rows = [["class", *splits]]
    rows += [[name or "(no label)", *(str(counts[name, split]) for split in splits)] for name in names]
    totals = [str(sum(counts[name, split] for name in names)) for split in splits]
    return aligned([*rows, ["all", *totals]], left=(0,), rules=(1, -1))


def duplicates_of(samples: Sequence[tuple[bytes, str, str]]) -> list[list[tuple[str, str]]]:
    """samples : (digest of its content, split, name) of each.  Groups of two or more, in order."""
    groups: dict[bytes, list[tuple[str, str]]] = {}
    for digest, split, name in samples:
        groups.setdefault(digest, []).append((split, name))
    return [group for group in groups.values() if len(group) > 1]


def _across_splits(group: Sequence[tuple[str, str]]) -> str:
    """The first sample of a group, and the first in another split."""
    split, name = group[0]
    other, same = next(sample for sample in group if sample[0] != split)
    return f"{name} ({split}) = {same} ({other})"


def kinds_in_words(kinds: Counter[str]) -> str:
    """How many of each kind, in brackets after their sum; empty if there is none."""
    return f" ({', '.join(f'{kind} {count}' for kind, count in sorted(kinds.items()))})" if kinds else ""
