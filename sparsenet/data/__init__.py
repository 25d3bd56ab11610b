"""Dataset files, the batches read from them, and the importers that write them."""

from sparsenet.data.batch import ShardedBatch, SparseBatch
from sparsenet.data.convert import Conversion
from sparsenet.data.dataset import SparseDataset
from sparsenet.data.import_report import ImportReport
from sparsenet.data.importers import import_csv, import_folder, import_parametric, import_points, read_upright
from sparsenet.data.joining import join_datasets
from sparsenet.data.modelnet10 import import_modelnet10_voxels
from sparsenet.data.modelnet40 import import_modelnet40_voxels
from sparsenet.data.parts import Part
from sparsenet.data.psb import import_psb
from sparsenet.data.sample import Sample
from sparsenet.data.samplers import BatchSampler, ClassBalancedSampler, TripletSampler
from sparsenet.data.shrec import import_shrec
from sparsenet.data.sweethome3d import import_sweethome3d
from sparsenet.data.volumes import import_volumes
from sparsenet.data.voxel_augment import VoxelAugmentation

__all__ = ["BatchSampler", "ClassBalancedSampler", "Conversion", "ImportReport", "Part", "Sample", "ShardedBatch",
           "SparseBatch", "SparseDataset", "TripletSampler", "VoxelAugmentation", "import_csv", "import_folder",
           "import_modelnet10_voxels", "import_modelnet40_voxels", "import_parametric", "import_points", "import_psb",
           "import_shrec", "import_sweethome3d", "import_volumes", "join_datasets", "read_upright"]
