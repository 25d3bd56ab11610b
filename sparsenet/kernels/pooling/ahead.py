"""Reading rows ahead of the windows that name them.

Windows name each row several times and jump from plane to plane of the grid, an order in which no processor reads
ahead.  In the rows' own order it does: so a loop over windows stops now and then, reads the rows of the next windows
once, for nothing but to have them in the cache, and takes them from there.
"""

from __future__ import annotations

import numba

from sparsenet.kernels.cpu.lanes import touch

AHEAD = 1 << 15  # results (windows * channels) whose rows are read at once
_LINE = 16  # channels, of float32: a line of the cache


@numba.njit(inline="always")
def read_rows(values, windows, start, stop, there):
    """Read the rows behind row `there` up to the last that window stop - 1 names; returns that, the next `there`.

    there : -1 at first: the rows that window `start` names are left out, with those before them
    """
    first, last = windows[start].max(), windows[stop - 1].max()
    there = there if there >= 0 else first
    if last - there <= (stop - start) * windows.shape[1]:  # else they are not in the order of the windows
        for n in range(there + 1, last + 1):
            for c in range(0, values.shape[1], _LINE):
                touch(values, (n, c))
    return max(there, last)
