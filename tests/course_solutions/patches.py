"""Exercise 6, patches: solved."""


def forward(images, side):
    B, H, W, C = images.shape
    grid = images.reshape(B, H // side, side, W // side, side, C)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(B, -1, side * side * C), (images.shape, side)


def backward(dy, cache):
    (B, H, W, C), side = cache
    grid = dy.reshape(B, H // side, W // side, side, side, C)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)
