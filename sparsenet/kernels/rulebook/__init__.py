"""Rulebooks: output cells, neighbours, pairs, and their transposes.

    cpu.py         which way a filter goes: bits.py (with loops.py) over maps of cells, walk.py over sorted keys
    reach.py       the cells that a filter reaches
    cuda.py        on a GPU, through rulebook.cu and lists.cu
"""
