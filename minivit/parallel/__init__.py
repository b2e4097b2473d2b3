"""All cores for one batch: threads, BLAS, how a batch is split, lanes, and prediction."""
