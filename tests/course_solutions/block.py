"""Exercise 11, block: solved."""

from minivit.course.earlier import layer_norm, mlp, multi_head, part, prefixed


def forward(x, p, heads):
    h, norm1 = layer_norm.forward(x, p["norm1.weight"], p["norm1.bias"])
    h, attn = multi_head.forward(h, part(p, "attn"), heads)
    x = x + h
    h, norm2 = layer_norm.forward(x, p["norm2.weight"], p["norm2.bias"])
    h, mlp_cache = mlp.forward(h, part(p, "mlp"))
    return x + h, (norm1, attn, norm2, mlp_cache)


def backward(dy, cache):
    norm1, attn, norm2, mlp_cache = cache
    g = {}
    dh, dmlp = mlp.backward(dy, mlp_cache)
    dh, g["norm2.weight"], g["norm2.bias"] = layer_norm.backward(dh, norm2)
    dx = dy + dh
    dh, dattn = multi_head.backward(dx, attn)
    dh, g["norm1.weight"], g["norm1.bias"] = layer_norm.backward(dh, norm1)
    return dx + dh, g | prefixed("attn", dattn) | prefixed("mlp", dmlp)
