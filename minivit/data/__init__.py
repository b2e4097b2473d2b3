"""Data sets: pictures as uint8 arrays with labels, from a name or a file."""

from .dataset import Dataset, split
from .load import load_data

__all__ = ["Dataset", "load_data", "split"]
