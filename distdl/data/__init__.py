"""Data: sets, samplers, loaders. The ranks appear here as plain integers (rank, size)."""

from .collate import default_collate as default_collate
from .dataset import ArrayDataset as ArrayDataset
from .dataset import Dataset as Dataset
from .dataset import IterableDataset as IterableDataset
from .dataset import Subset as Subset
from .digits import load_digits as load_digits
from .fashion_mnist import load_fashion_mnist as load_fashion_mnist
from .idx import read_idx as read_idx
from .loader import DataLoader as DataLoader
from .npy import load_arrays as load_arrays
from .sampler import DistributedSampler as DistributedSampler
from .sampler import GlobalBatchSampler as GlobalBatchSampler
from .transforms import Compose as Compose
from .transforms import Normalize as Normalize
from .transforms import RandomCrop as RandomCrop
from .transforms import RandomHorizontalFlip as RandomHorizontalFlip
