"""Record and replay: a training step without Python between its kernels.

To *record* here means to write down which kernels a pass calls, and to *replay*, to call them again. (It has nothing to
do with the records of a run, or a replay buffer.) A *pass* is forward, loss and backward of one micro-batch, or the
prediction of one. A pass of a small model calls some hundreds of short kernels, and Python runs before each. Only one
thread at a time runs Python, so two threads often wait for each other. But every pass over a micro-batch of one size
calls the same kernels, on arrays of the same shapes:

    pass 1      is recorded, and computes its results
    pass 2      is recorded again: both must have called the same kernels, otherwise all further ones run as written
    pass 3..    images, labels and the number of the step are written into the arrays of pass 2, and it is replayed: one
                compiled loop calls the kernels one after the other, without Python, new memory or a lock

Layers and ops do not know of it:

    kernels and products     a call asks for this thread's recorder (`kernel.active.recorder`), often None
    new arrays               `kernel.empty` takes memory of the record (`memory.py`)
    x + y, x[...] = y        arrays of a record are `Tracked`: they tell the recorder what NumPy does (`tracked.py`)

The files: `replayed` (start here), `recorder`, `tracked`, `memory`, `loops` (NumPy's elementwise functions as kernels),
`machine` (calls by address).

The idea is that of CUDA graphs. A replay repeats only the recorded work on arrays. Whatever else a layer does in
Python, such as counting calls, stays as it was in the recorded pass. So a layer of your own is replayed only if its
class says `replayable = True` (see `PackedTree.why_not_replayable`). An objective of your own is not.
`Trainer(replay=False)` and the environment variable MINIVIT_REPLAY=0 switch replay off.

Read before: `kernel.py`, `parallel/lanes.py`.
Sources: CUDA graphs, CUDA C++ Programming Guide, NVIDIA 2018; the same on CPUs: tinygrad's `TinyJit`.
"""

from .memory import Memory, shared_memory
from .recorder import NotRecordable
from .replayed import Replayed
from .tracked import Tracked

__all__ = ["Memory", "NotRecordable", "Replayed", "Tracked", "shared_memory"]
