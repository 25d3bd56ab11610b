"""Convolutions and the gradient of their weights, over the neighbours or the pairs of a rulebook.

    view.py        which of the two a CPU goes through
    cpu.py         over the neighbours: gather, then multiply
    pairs.py       over the pairs
    by_row.py      in evaluation: the bits of a row depend on no other row
    cuda.py        the same on a GPU, through *.cu: wgmma.py on sm_90, order.py sorts rows
    tuning.py      finds tiles for a GPU (see cuda/tiles.py)
"""
