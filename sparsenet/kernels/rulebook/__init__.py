"""Rulebooks: output cells, neighbours, pairs, and their transposes.

    cpu.py         chooses between bits.py (with loops.py), over bit maps of cells, and walk.py, over sorted keys
    windows.py     the output cells to which a filter joins a coordinate, axis by axis
    joined.py      what both backends share: the output cell behind each offset, and how many pairs there are
    cuda.py        on a GPU, through rulebook.cu and lists.cu
"""
