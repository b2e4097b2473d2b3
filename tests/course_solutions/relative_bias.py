"""Exercise 19, relative_bias: solved."""

import numpy as np


def offsets(rows, columns):
    y, x = np.divmod(np.arange(rows * columns), columns)
    return (y[:, None] - y + rows - 1) * (2 * columns - 1) + (x[:, None] - x + columns - 1)


def forward(table, rows, columns):
    index = offsets(rows, columns)
    return table[index].transpose(2, 0, 1), (index, table.shape)


def backward(dbias, cache):
    index, shape = cache
    dtable = np.zeros(shape, dbias.dtype)
    np.add.at(dtable, index, dbias.transpose(1, 2, 0))
    return dtable
