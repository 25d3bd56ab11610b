"""Convolution, forward and both gradients, through the view of a rulebook that a backend prefers.

    cpu.py         the passes on a CPU
    view.py        the view that each goes through: which costs least
    neighbours.py  over neighbours: gather, then multiply
    pairs.py       over pairs
    by_row.py      in evaluation: the bits of a row depend on no other row
    cuda.py        the passes on a GPU, through *.cu: wgmma.py on sm_90, words.py for tensor cores, order.py sorts rows
    tuning.py      finds tiles for a GPU (see cuda/tiles.py)
"""
