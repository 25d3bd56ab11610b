"""The contracts of points and the cells that they lie in."""

from __future__ import annotations

from typing import Any

from sparsenet.kernels.guards import guard_capacity
from sparsenet.kernels.table import Array, Integers, Scalar, declare

OUTSIDE, NOT_FINITE, NO_SAMPLE = -1, -2, -3  # in place of a key or row: of the grid, the point; there is no such sample

_POINTS = {
    "points": Array("float", "P D"),
    "samples": Array("int64", "P", optional=True),  # the batch number of each; None: 0
    "origin": Array("float64", "D"),
    "voxel_size": Array("float64", "D"),
    "spatial_size": Integers("D"),
    "batch_size": Scalar(int),
}
POINT_KEYS = declare(
    "point_keys", "points",
    "out[p] = key of the cell floor((points[p] - origin) / voxel_size)",
    **_POINTS,
)
POINT_ROWS = declare(
    "point_rows", "points",
    "out[p] = row of the site in p's cell; if trilinear those of the 2^D cells whose centres are around p, and weights",
    **_POINTS,
    keys=Array("int64", "N"),  # of the sites, sorted
    table_keys=Array("int64", "T"),
    table_rows=Array("int32", "T"),
    trilinear=Scalar(bool),
)
SORT_KEYS = declare(
    "sort_keys", "points",
    "out[i] = keys[members[i]], which rise; members of equal keys rise, too",
    keys=Array("int64", "M"),  # from -1 on
    limit=Scalar(int),  # no key is larger
)
INTERPOLATE_ROWS = declare(
    "interpolate_rows", "points",
    "out[p] = sum over k of weights[p, k] features[rows[p, k]], the background of p's sample if the row is -1",
    features=Array("feature", "N C"),
    rows=Array("int32", "P K"),
    weights=Array("float64", "P K", optional=True),  # None: K is 1, and the row is copied
    background=Array("feature", "G C", optional=True),
    samples=Array("int64", "P", optional=True),
)
_GROUPS = {  # group s has the members splits[s] to splits[s + 1]; members before the first group are in none
    "members": Array("int64", "M"),
    "splits": Array("int64", "S1"),
}
GROUP_SUM = declare(
    "group_sum", "points",
    "out[s] = sum over the members m of group s, in their order, of weights[m] values[m // K]; or their mean",
    values=Array("feature", "P C"),
    **_GROUPS,
    weights=Array("float64", "P K", optional=True),  # None: ones, and K is 1
    mean=Scalar(bool),
)
GROUP_MAX = declare(
    "group_max", "points",
    "out[s] = max over the members m of group s of values[m]; the first that attains it",
    values=Array("feature", "P C"),
    **_GROUPS,
)

guard_capacity(POINT_ROWS)


@SORT_KEYS.guard("checking")
def _keys_keep_to_the_limit(keys, limit):
    _check_range("sort_keys", "keys", keys, -1, limit + 1)


@INTERPOLATE_ROWS.guard("always")
def _rows_have_weights(rows, weights, background, samples):
    if weights is None and rows.shape[1] != 1:
        raise ValueError(f"interpolate_rows: rows has shape {rows.shape} and weights is None, expected weights of that "
                         "shape, or one row for each point")
    if background is not None and len(background) != 1 and samples is None:
        raise ValueError(f"interpolate_rows: background has {len(background)} rows and samples is None, expected one "
                         "row, or the sample of each point")


@INTERPOLATE_ROWS.guard("checking")
def _rows_and_samples_exist(features, rows, background, samples):
    _check_range("interpolate_rows", "rows", rows, -1, len(features))
    if background is not None and len(background) != 1:
        _check_range("interpolate_rows", "samples", samples, 0, len(background))


def _guard_groups(kernel: Any) -> None:
    @kernel.guard("always")
    def there_are_splits(splits):
        if not len(splits):
            raise ValueError(f"{kernel.name}: splits is empty, expected one number more than there are groups")

    @kernel.guard("host")
    def splits_rise(members, splits):
        if splits[0] < 0 or splits[-1] > len(members) or (splits[1:] < splits[:-1]).any():
            raise ValueError(f"{kernel.name}: splits is {splits}, expected numbers that rise within 0 to "
                             f"{len(members)}, the number of members")


_guard_groups(GROUP_SUM)
_guard_groups(GROUP_MAX)


@GROUP_SUM.guard("checking")
def _weighted_members_exist(values, members, weights):
    _check_range("group_sum", "members", members, 0, len(values) if weights is None else weights.size)


@GROUP_MAX.guard("checking")
def _members_exist(values, members):
    _check_range("group_max", "members", members, 0, len(values))


def _check_range(kernel: str, name: str, numbers: Any, low: int, end: int) -> None:
    if numbers.size and not (low <= int(numbers.min()) and int(numbers.max()) < end):
        raise ValueError(f"{kernel}: {name} are {int(numbers.min())} to {int(numbers.max())}, expected {low} to "
                         f"{end - 1}")
