"""The report of an import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sparsenet.files import size_text
from sparsenet.wording import aligned, counted, listed

_ORDER = ("train", "val", "test")  # of the columns; other splits follow by name
_LISTED = 20  # names written out in one message


@dataclass
class ImportReport:
    """The report of an importer; `str` gives all of it as text.

    path : the dataset file;  samples : number of samples in it
    failures : (source, reason) of each unusable mesh
    classes : the class names, empty if nothing is labelled
    counts : (class, split) -> number of samples; the class is None for unlabelled samples
    duplicates : lists of (split, name) of samples with the same content
    up_axes : (axis, format), such as ("y", ".obj") -> number of files; empty without files
    ignored : kind of file -> number skipped
    without_class : names of meshes left out because they are in no class
    remarks : lines about how the input was interpreted, such as its layout
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
        """The file, its contents, and how the input was interpreted."""
        lines = [f"{self.path}: {counted(self.samples, 'sample')}, {size_text(self.path.stat().st_size)}",
                 *self.remarks]
        if self.up_axes:
            lines.append(f"up axis: {', '.join(self._axes_in_words())}")
        lines += self.counts_text().splitlines()
        again = sum(len(group) - 1 for group in self.duplicates)
        lines.append(f"ignored {counted(self.ignored.total(), 'file')}{kinds_in_words(self.ignored)}; "
                     f"unreadable: {len(self.failures)}; same content as an earlier sample: {again}")
        return lines

    def warnings(self) -> list[str]:
        """Problems to look at: meshes left out, duplicates across splits, different up axes."""
        found = []
        if self.failures:
            found.append(f"left out {counted(len(self.failures), 'file or folder', 'files or folders')} that cannot be "
                         "used:")
            found += [f"  {source}: {reason.removeprefix(f'{source}: ')}" for source, reason in self.failures]
        if self.without_class:
            meshes = counted(len(self.without_class), "mesh that is", "meshes that are")
            found.append(f"left out {meshes} in no class folder (--unlabelled, unlabelled=True, imports all): "
                         f"{listed(self.without_class, _LISTED)}")
        shared = [group for group in self.duplicates if len({split for split, _ in group}) > 1]
        if shared:
            pairs = [_across_splits(group) for group in shared]
            shapes = counted(len(shared), "shape has", "shapes have")
            found.append(f"warning: {shapes} the same content in two splits, so the test data is partly training "
                         f"data: {listed(pairs, _LISTED)}")
        if len({axis for axis, _ in self.up_axes}) > 1:
            found.append("warning: the up axes, guessed from the formats, differ: if all files have the same up axis, "
                         "state it (up_axis, on the command line --up-axis y or z)")
        return found

    def counts_text(self) -> str:
        """Sample counts by class and split, as text."""
        return counts_text(self.counts, self.classes)

    def _axes_in_words(self) -> list[str]:
        words = []
        for axis, what in (("y", "rotated to z"), ("z", "left unchanged")):
            kinds = Counter({kind: count for (own, kind), count in self.up_axes.items() if own == axis})
            if kinds:
                words.append(f"{axis} for {counted(kinds.total(), 'file')}{kinds_in_words(kinds)}, {what}")
        return words


def counts_text(counts: Counter[tuple[str | None, str]], classes: Sequence[str]) -> str:
    """Sample counts as text, one row for each class and one column for each split.

    counts : (class, split) -> number of samples; the class is None for unlabelled samples
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
    """Groups of two or more samples with the same content, in order.

    samples : (digest of the content, split, name) of each
    """
    groups: dict[bytes, list[tuple[str, str]]] = {}
    for digest, split, name in samples:
        groups.setdefault(digest, []).append((split, name))
    return [group for group in groups.values() if len(group) > 1]


def _across_splits(group: Sequence[tuple[str, str]]) -> str:
    """The first sample of a group, and the first one in another split."""
    split, name = group[0]
    other, same = next(sample for sample in group if sample[0] != split)
    return f"{name} ({split}) = {same} ({other})"


def kinds_in_words(kinds: Counter[str]) -> str:
    """The number of each kind, in parentheses; empty if there are none."""
    return f" ({', '.join(f'{kind} {count}' for kind, count in sorted(kinds.items()))})" if kinds else ""
