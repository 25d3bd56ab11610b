"""The contracts of rows of features: runs of them, one for each sample, those of a union of sites."""

from __future__ import annotations

from typing import Any

from sparsenet.kernels.guards import rises
from sparsenet.kernels.table import Array, Scalar, declare

SEGMENT_SUM = declare(
    "segment_sum", "rows",
    "out[s] = sum of values[splits[s]:splits[s + 1]]; of all rows without splits",
    values=Array("feature", "N C"),
    splits=Array("int64", "S", optional=True),
)
SEGMENT_MAX = declare(
    "segment_max", "rows",
    "out[s] = max of values[splits[s]:splits[s + 1]]; the first row that attains it",
    values=Array("feature", "N C"),
    splits=Array("int64", "S"),
)


def _guard_splits(kernel: Any) -> None:
    def raise_for(values, splits):
        raise ValueError(f"{kernel.name}: splits is {splits}, expected numbers that rise from 0 to {len(values)}, the "
                         "rows of values")

    def there_are_splits(values, splits):
        if splits is not None and not len(splits):
            raise_for(values, splits)

    def splits_rise(values, splits):
        if splits is not None and not rises(splits, len(values)):
            raise_for(values, splits)

    kernel.guard("always")(there_are_splits)
    kernel.guard("host")(splits_rise)


_guard_splits(SEGMENT_SUM)
_guard_splits(SEGMENT_MAX)

_ROWS = {"values": Array("feature", "N C"), "rows": Array("feature", "G C"), "coordinates": Array("int32", "N D1")}
ADD_SAMPLE_ROWS = declare(
    "add_sample_rows", "rows", "out[n] = values[n] + rows[sample of n]; one row serves all samples", **_ROWS)
SUBTRACT_SAMPLE_ROWS = declare(
    "subtract_sample_rows", "rows", "out[n] = values[n] - rows[sample of n]", **_ROWS)
MULTIPLY_SAMPLE_ROWS = declare(
    "multiply_sample_rows", "rows", "out[n] = values[n] * rows[sample of n]", **_ROWS)

# Each side is rows of sites that are among the M sites of the union, the n-th being its row x_rows[n], ascending; None:
# all of them.  Where it has no site stands its background, a row for all samples or one for each; None: zeros.
_SIDES = {
    "x_rows": Array("int64", "X", optional=True),
    "y_rows": Array("int64", "Y", optional=True),
    "x_background": Array("feature", "G C", optional=True),
    "y_background": Array("feature", "H E", optional=True),
    "coordinates": Array("int32", "M D1", optional=True),  # of the union; None: both sides have all its sites
}
CONCATENATE_ROWS = declare(
    "concatenate_rows", "rows", "out[m] = [x at m, y at m], or their backgrounds",
    x=Array("feature", "X C"), y=Array("feature", "Y E"), **_SIDES)
_SAME_CHANNELS = {"x": Array("feature", "X C"), "y": Array("feature", "Y C"),
                  **_SIDES, "y_background": Array("feature", "H C", optional=True)}
ADD_ROWS = declare(
    "add_rows", "rows", "out[m] = (x at m, or its background) + (y at m, or its background)", **_SAME_CHANNELS)
SUBTRACT_ROWS = declare("subtract_rows", "rows", "out[m] = the same with - in place of +", **_SAME_CHANNELS)
MULTIPLY_ROWS = declare("multiply_rows", "rows", "out[m] = the same with * in place of +", **_SAME_CHANNELS)
SPLIT_ROWS = declare(
    "split_rows", "rows",
    "x[n] = values[x_rows[n], :channels], y[n] = values[y_rows[n], channels:], as in concatenate_rows",
    values=Array("feature", "M C"),
    x_rows=Array("int64", "X", optional=True),
    y_rows=Array("int64", "Y", optional=True),
    channels=Scalar(int),
)


def _guard_sides(kernel: Any) -> None:
    @kernel.guard("always")
    def a_side_has_all_sites_or_says_which(x, y, x_rows, y_rows, x_background, y_background, coordinates):
        sites = len(x if x_rows is None else y) if coordinates is None else len(coordinates)
        for name, values, rows, background in (("x", x, x_rows, x_background), ("y", y, y_rows, y_background)):
            if rows is None and len(values) != sites:
                raise ValueError(f"{kernel.name}: {name} has {len(values)} rows, expected {sites}, one for each site: "
                                 f"pass {name}_rows")
            if rows is not None and coordinates is None:
                raise ValueError(f"{kernel.name}: coordinates is None, expected those of the union, of which "
                                 f"{name}_rows are some rows")
            if background is not None and not len(background):
                raise ValueError(f"{kernel.name}: {name}_background has no row, expected one, or one for each sample")

    @kernel.guard("host")
    def they_ascend(x_rows, y_rows, coordinates):
        _check_rows_ascend(kernel.name, x_rows, y_rows, coordinates)


def _check_rows_ascend(kernel: str, x_rows: Any, y_rows: Any, union: Any) -> None:
    for name, rows in (("x_rows", x_rows), ("y_rows", y_rows)):
        if rows is not None and rows.size and not (0 <= rows[0] and rows[-1] < len(union)
                                                   and (rows[1:] > rows[:-1]).all()):
            raise ValueError(f"{kernel}: {name} must ascend from 0 or more to below {len(union)}, the sites of the "
                             "union")


for _kernel in (CONCATENATE_ROWS, ADD_ROWS, SUBTRACT_ROWS, MULTIPLY_ROWS):
    _guard_sides(_kernel)


@SPLIT_ROWS.guard("always")
def _both_have_channels(values, channels):
    if not 0 <= channels <= values.shape[1]:
        raise ValueError(f"split_rows: channels is {channels}, expected 0 to {values.shape[1]}, those of values")


@SPLIT_ROWS.guard("host")
def _split_rows_ascend(values, x_rows, y_rows):
    _check_rows_ascend("split_rows", x_rows, y_rows, values)
