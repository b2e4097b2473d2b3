"""The same Vision Transformer in other frameworks, to be compared with. Optional: each file needs its framework.

A peer has a class `Contestant(config, weights, images, labels, threads)` with `train()` and `infer()`, and a function
`product(m, k, n, threads)`; see `minivit/bench/`, which times them.
"""
