"""Exercise 1, linear: solved."""


def forward(x, weight, bias):
    return x @ weight + bias, (x, weight)


def backward(dy, cache):
    x, weight = cache
    rows, drows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    dx = dy @ weight.T
    dweight = rows.T @ drows
    dbias = drows.sum(axis=0)
    return dx, dweight, dbias
