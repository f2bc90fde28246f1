"""Data: sets, samplers, loaders. The ranks appear here as plain integers (rank, size)."""

from .collate import default_collate as default_collate
from .dataset import ArrayDataset as ArrayDataset
from .dataset import Dataset as Dataset
from .dataset import IterableDataset as IterableDataset
from .dataset import Subset as Subset
from .digits import load_digits as load_digits
from .loader import DataLoader as DataLoader
from .sampler import DistributedSampler as DistributedSampler
from .sampler import GlobalBatchSampler as GlobalBatchSampler
