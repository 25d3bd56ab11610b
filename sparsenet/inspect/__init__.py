"""Tools to look inside a network: traces, figures and the inspector page.

Each figure is a function that returns a matplotlib Figure; `save_figure` writes it to a file.
"""

from sparsenet.inspect.confusion import confusion_counts, confusion_matrix
from sparsenet.inspect.curves import precision_recall, rate_curve, training_curves
from sparsenet.inspect.figures import save_figure
from sparsenet.inspect.gallery import Picture, gallery
from sparsenet.inspect.grad_cam import GradCam, grad_cam
from sparsenet.inspect.grids import activation_slices, activation_voxels, sparse_tensor
from sparsenet.inspect.hashing import hash_table, hash_table_report
from sparsenet.inspect.kept import Kept
from sparsenet.inspect.labels import labelled_voxels
from sparsenet.inspect.meshes import render_sizes
from sparsenet.inspect.pca import descriptor_map, principal_components
from sparsenet.inspect.rules import rulebook
from sparsenet.inspect.statistics import statistics
from sparsenet.inspect.top_shapes import ChannelTops, TopShape, TopShapes, top_shapes
from sparsenet.inspect.tracing import Trace, trace

__all__ = ["ChannelTops", "GradCam", "Kept", "Picture", "TopShape", "TopShapes", "Trace", "activation_slices",
           "activation_voxels", "confusion_counts", "confusion_matrix", "descriptor_map", "gallery", "grad_cam",
           "hash_table", "hash_table_report", "labelled_voxels", "precision_recall", "principal_components",
           "rate_curve", "render_sizes", "rulebook", "save_figure", "sparse_tensor", "statistics", "top_shapes",
           "trace", "training_curves"]
