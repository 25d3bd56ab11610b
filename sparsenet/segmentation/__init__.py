"""Labels of sites: how well predicted ones agree with the true ones."""

from sparsenet.segmentation.metrics import SegmentationEvaluation, Tally, evaluate

__all__ = ["SegmentationEvaluation", "Tally", "evaluate"]
