"""The numbers that the paper, and those it compares itself with, published."""

from __future__ import annotations

# Table 1: side of the grid -> mean share of active cells in percent, ModelNet40 at render size 40
ACTIVE_PERCENT = {126: 0.18, 125: 0.35, 62: 0.69, 61: 1.07, 30: 1.93, 29: 3.26, 14: 7.32, 13: 15.14, 6: 46.3, 5: 97.54,
                  2: 100.0, 1: 100.0}
BOX_PERCENT = 5.5  # of the cells of a 40^3 box, ModelNet40 at render size 40

Figures = tuple[float | None, float | None, float | None]

# Table 2, ModelNet40: method -> accuracy, AUC, mAP in percent, None if not published
METHODS: dict[str, Figures] = {
    "3DShapeNets": (77.32, 49.94, 49.23),
    "MVCNN": (90.10, None, 80.20),
    "S3DCNN": (90.3, 36.05, 33.67),
    "S3DCNN + triplet": (None, 48.81, 46.71),
}

# The same on ModelNet10: Wu et al. 2015, Maturana and Scherer 2015
METHODS_MODELNET10: dict[str, Figures] = {"3DShapeNets": (83.54, 69.28, 68.26), "VoxNet": (92.0, None, None)}
