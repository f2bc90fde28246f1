"""Data: sets, samplers, loaders. The ranks appear here as plain integers (rank, size)."""

from .collate import default_collate
from .dataset import ArrayDataset, Dataset, IterableDataset, Subset
from .digits import load_digits
from .fashion_mnist import load_fashion_mnist
from .idx import read_idx
from .loader import DataLoader
from .npy import load_arrays
from .sampler import DistributedSampler, GlobalBatchSampler
from .sharded.arrays import ShardedArrays
from .sharded.indexing import index_shards
from .sharded.tar import TarShards
from .sharded.writer import ShardWriter
from .transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip

__all__ = [
    "ArrayDataset",
    "Compose",
    "DataLoader",
    "Dataset",
    "DistributedSampler",
    "GlobalBatchSampler",
    "IterableDataset",
    "Normalize",
    "RandomCrop",
    "RandomHorizontalFlip",
    "ShardWriter",
    "ShardedArrays",
    "Subset",
    "TarShards",
    "default_collate",
    "index_shards",
    "load_arrays",
    "load_digits",
    "load_fashion_mnist",
    "read_idx",
]
