"""The same models in other frameworks, for comparison. Each file needs its framework.

A peer has a class `Contestant(family, config, weights, images, labels, threads)` with `train()` and `infer()`, and a
function `product(m, k, n, threads)`: `torch_peer` for all families, `jax_vit` for the ViT.
"""
