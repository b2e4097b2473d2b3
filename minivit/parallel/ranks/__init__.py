"""Several processes train one model, on one machine or on many. Each process is a *rank*; MPI connects them.

    alone        what the rest of the package knows of ranks, and the answers of a process that is alone
    mpi          the same answers for the ranks of an MPI communicator: which lanes are whose, and the sum in order
    messages     messages between ranks, in which no wait is endless
    liveness     how ranks notice that one of them is killed, hangs, or has an error
    obituary     a small process that says what to do after all ranks are killed

MPI, the message passing interface, starts the ranks (`mpiexec -n 4 ...`), numbers them from 0 and carries their
messages. The package mpi4py gives access to it. Read `parallel/lanes.py` first, then `alone`, then `mpi`.
"""
