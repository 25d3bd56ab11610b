"""A progress bar for passes over a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset


class Watched:
    """A dataset whose `batches` show a tqdm bar on stderr if it is a terminal; otherwise it behaves like the
    dataset."""

    def __init__(self, dataset: SparseDataset, description: str):
        self._dataset = dataset
        self._description = description

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def select(self, indices: Any) -> Watched:
        """See `SparseDataset.select`."""
        return Watched(self._dataset.select(indices), self._description)

    def batches(self, *arguments: Any, **options: Any) -> Any:
        """See `SparseDataset.batches`."""
        from tqdm import tqdm

        return tqdm(self._dataset.batches(*arguments, **options), desc=self._description, unit="batch", leave=False,
                    disable=None)
