"""How one batch uses all cores.

    threads        how many cores there are, and `Workers`, which run tasks on threads
    blas           how many threads BLAS uses for a matrix product
    memory         why freed memory is kept
    libc           the C library, for the last one
    batch_split    how a batch is split into shards and micro-batches
    lanes          training: data parallelism within one process
    prediction     inference
    ranks          several processes, which MPI connects
    replayed_replica    what a lane records and replays

Read `batch_split`, then `lanes`.
"""
