"""One chapter per operation: equation, derivation, plain NumPy, and the same mathematics made fast.

Every chapter has the same four functions,

    reference_forward(x, ...)      -> y, cache       plain NumPy, for reading and for tests
    reference_backward(dy, cache)  -> dx, ...        gradients in the order of the inputs
    forward(x, ...)                -> y, cache       what the layers call
    backward(dy, cache)            -> dx, ...

The letters are those of `minivit/__init__.py`: B images, N tokens, D width, h heads, d = D / h, F width of the MLP, K
classes; delta_ij is 1 if i = j and 0 else. A chapter knows nothing of layers, data or training. Operations never modify
their inputs. They keep the dtype of the input: float32 to train, float64 to verify.

Read them in this order: `linear`, `gelu`, `layer_norm`, `softmax`, `attention`, `cross_entropy`; then `patches`,
`tokens` and `pooling`, which lead from pictures to tokens and back out; `relative_bias`, `convolution` and `winograd`,
which a model may have; then `dropout`, and `philox`, its random numbers.
"""
