"""Record and replay: a training step without Python between its kernels.

A step of a small model calls some hundreds of kernels, and Python needs longer to call one than the kernel to run. Only
one thread at a time runs Python, so two threads mostly wait for each other. But every step calls the same kernels, on
arrays of the same shapes. So the first step is *recorded*, and later steps *replay* the record: one compiled loop calls
the kernels one after the other. It needs no Python, no new memory and no lock.

    step 1     layers and ops run as written; each kernel runs, and is written down with its arrays
    step 2     runs as written and is replayed; both must agree in every bit, or the record is thrown away
    step 3..   images, labels and the number of the step are written into the arrays of step 1; replay

The idea is that of CUDA graphs. Layers and ops do not know of it; this is how a call reaches the recorder:

    kernels and products     `kernel.Kernel` and `matrix_products.py` ask `kernel.active.recorder`
    new arrays               `kernel.empty` takes memory of the record (`memory.py`)
    x + y, x[...] = y        arrays of a record are `Tracked`: they tell what NumPy is asked to do (`tracked.py`)

The files: `replayed` (start here), `recorder`, `tracked`, `memory`, `loops` (NumPy's elementwise functions as kernels),
`machine` (calls by address).

Read before: `kernel.py`, `parallel/lanes.py`.
Sources: CUDA graphs, CUDA C++ Programming Guide, NVIDIA 2018; the same on CPUs: tinygrad's `TinyJit`.
"""

from .memory import Memory
from .recorder import NotRecordable
from .replayed import Replayed
from .tracked import Tracked

__all__ = ["Memory", "NotRecordable", "Replayed", "Tracked"]
