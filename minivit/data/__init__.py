"""Data sets: uint8 images with labels, loaded by name, from a file or from a folder."""

from .dataset import Dataset, split, stratified_order, subset
from .image_files import read_image_files
from .load import is_image_folder, load_data, loading_without_labels, shadowing_folder
from .shapes import draw_shapes

__all__ = ["Dataset", "draw_shapes", "is_image_folder", "load_data", "loading_without_labels", "read_image_files",
           "shadowing_folder", "split", "stratified_order", "subset"]
