"""Exercise 13, vit: solved."""

from minivit.course.earlier import block, embedding, head, part, patches, prefixed


def forward(images, p, sizes):
    x, _ = patches.forward(images, sizes["patch"])
    x, embedding_cache = embedding.forward(x, part(p, "embedding"))
    caches = []
    for i in range(sizes["depth"]):
        x, cache = block.forward(x, part(p, f"blocks.{i}"), sizes["heads"])
        caches.append(cache)
    logits, head_cache = head.forward(x, part(p, "head"))
    return logits, (embedding_cache, caches, head_cache)


def backward(dlogits, cache):
    embedding_cache, caches, head_cache = cache
    dx, dp = head.backward(dlogits, head_cache)
    g = prefixed("head", dp)
    for i in reversed(range(len(caches))):
        dx, dp = block.backward(dx, caches[i])
        g |= prefixed(f"blocks.{i}", dp)
    _, dp = embedding.backward(dx, embedding_cache)
    return g | prefixed("embedding", dp)
