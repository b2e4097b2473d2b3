"""Data sets: pictures as uint8 arrays with labels, from a name, a file or a folder."""

from .dataset import Dataset, split, stratified_order, subset
from .load import hidden_folder, holds_pictures, load_data
from .pictures import read_pictures

__all__ = ["Dataset", "hidden_folder", "holds_pictures", "load_data", "read_pictures", "split", "stratified_order", "subset"]
