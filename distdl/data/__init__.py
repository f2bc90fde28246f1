"""Data: sets, samplers, loaders. The ranks appear here as plain integers (rank, size)."""

from .collate import default_collate
from .dataset import ArrayDataset, Dataset, IterableDataset, Subset
from .digits import load_digits
from .fashion_mnist import load_fashion_mnist
from .idx import read_idx
from .loader import DataLoader
from .npy import load_arrays
from .sampler import DistributedSampler, GlobalBatchSampler
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
    "Subset",
    "default_collate",
    "load_arrays",
    "load_digits",
    "load_fashion_mnist",
    "read_idx",
]
