"""Speed: against this machine's limit and other frameworks, where the time goes, and how the cost grows.

    shapes      what is measured: a model, a batch, and a task
    compare     our training step and inference and those of the installed peers, one process each
    profiling   one training step, op by op
    scaling     the cost of an image against batch, tokens, depth, width and threads
    plot        the share of the machine's limit over the width of the model
"""

from .compare import bench, table
from .plot import draw, sizes
from .profiling import profile, profile_table
from .scaling import growth, growth_table
from .shapes import SHAPES, select

__all__ = ["SHAPES", "bench", "draw", "growth", "growth_table", "profile", "profile_table", "select", "sizes", "table"]
