"""Layers in the styles of public courses and libraries, written anew, each with wrong versions of itself.

The gradient checker must accept these layers as they are. Each file has one style. A layer stands above a function that
checks it, which adapts the layer in at most two lines; the decorator of that function lists the mistakes:

    @stranger(("w", "sign", "x.T @ dout", "-x.T @ dout"), ...)        tensor, pattern, right text, wrong text
    def affine(gradcheck, normal):
        return gradcheck((affine_forward, affine_backward), normal(3, 4), normal(4, 2))

A wrong version is the file with that one edit. `collection` loads layers and plants mistakes. `PATTERNS` there says
which hint a pattern deserves.
"""
