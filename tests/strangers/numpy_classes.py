"""Classes with dicts `parameters` and `gradients`, and lists of what the forward keeps: `backward(dLdy) -> dX`."""

import numpy as np

from .collection import stranger


class LayerBase:
    def __init__(self):
        self.X, self.gradients, self.parameters, self.derived_variables = [], {}, {}, {}
        self.trainable = True


class FullyConnected(LayerBase):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.parameters = {"W": np.random.randn(n_in, n_out), "b": np.zeros((1, n_out))}
        self.gradients = {"W": np.zeros((n_in, n_out)), "b": np.zeros((1, n_out))}

    def forward(self, X):
        Z = X @ self.parameters["W"] + self.parameters["b"]
        self.X.append(X)
        return np.tanh(Z)

    def backward(self, dLdy):
        X = self.X[-1]
        Y = np.tanh(X @ self.parameters["W"] + self.parameters["b"])
        dZ = dLdy * (1 - Y**2)
        self.gradients["W"] += X.T @ dZ
        self.gradients["b"] += dZ.sum(axis=0, keepdims=True)
        return dZ @ self.parameters["W"].T


@stranger(("parameters.b", "shape", '["b"] += dZ.sum(axis=0, keepdims=True)', '["b"] = dZ'),
          ("parameters.b", "mean for sum", "dZ.sum(axis=0, keepdims=True)", "dZ.mean(axis=0, keepdims=True)"),
          ("parameters.W", "sign", '["W"] += X.T', '["W"] -= X.T'),
          ("X", "zero", "return dZ @", "return 0 * dZ @"),
          ("X parameters.W parameters.b", "", "(1 - Y**2)", "Y * (1 - Y)"))
def fully_connected(gradcheck, normal):
    return gradcheck(FullyConnected(4, 3), normal(5, 4))


class Softmax(LayerBase):
    def __init__(self, dim=-1):
        super().__init__()
        self.dim = dim

    def forward(self, X):
        e_X = np.exp(X - np.max(X, axis=self.dim, keepdims=True))
        self.Y = e_X / e_X.sum(axis=self.dim, keepdims=True)
        return self.Y

    def backward(self, dLdy):
        dX = []
        for dy, y in zip(dLdy, self.Y, strict=True):
            dX.append(dy @ (np.diag(y) - np.outer(y, y)))
        return np.array(dX)


@stranger(("X", "missing term", "(np.diag(y) - np.outer(y, y))", "np.diag(y)"),
          ("X", "missing term", "(np.diag(y) - np.outer(y, y))", "np.diag(y * (1 - y))"),
          ("X", "sign", "(np.diag(y) - np.outer(y, y))", "(np.outer(y, y) - np.diag(y))"),
          ("X", "", "np.outer(y, y)", "np.outer(y, y) / 2"))
def softmax(gradcheck, normal):
    return gradcheck(Softmax(), normal(4, 6))


class BatchNorm1D(LayerBase):
    def __init__(self, n_in, epsilon=1e-5, momentum=0.9):
        super().__init__()
        self.epsilon, self.momentum = epsilon, momentum
        self.parameters = {"scaler": np.random.rand(n_in), "intercept": np.zeros(n_in)}
        self.gradients = {name: np.zeros(n_in) for name in self.parameters}
        self.running = [0.0, 1.0]

    def forward(self, X):
        self.mean, self.var = X.mean(axis=0), X.var(axis=0)
        self.running[0] = self.momentum * self.running[0] + (1 - self.momentum) * self.mean.sum()
        self.X.append(X)
        N = (X - self.mean) / np.sqrt(self.var + self.epsilon)
        return self.parameters["scaler"] * N + self.parameters["intercept"]

    def backward(self, dLdy):
        X = self.X[-1]
        n = len(X)
        istd = 1 / np.sqrt(self.var + self.epsilon)
        N = (X - self.mean) * istd
        self.gradients["intercept"] += dLdy.sum(axis=0)
        self.gradients["scaler"] += np.sum(dLdy * N, axis=0)
        dN = dLdy * self.parameters["scaler"]
        return (n * dN - dN.sum(axis=0) - N * (dN * N).sum(axis=0)) * istd / n


@stranger(("X", "missing term", " - dN.sum(axis=0)", ""),
          ("X", "missing term", " - N * (dN * N).sum(axis=0)", ""),
          ("X", "factor", "* istd / n", "* istd / (n - 1)"),
          ("parameters.scaler", "", "np.sum(dLdy * N, axis=0)", "np.sum(dLdy * X, axis=0)"),
          ("parameters.intercept", "missing sum", "dLdy.sum(axis=0)", "dLdy[0]"))
def batchnorm_1d(gradcheck, normal):
    return gradcheck(BatchNorm1D(3), normal(6, 3))


class LayerNorm1D(LayerBase):
    def __init__(self, n_in, epsilon=1e-5):
        super().__init__()
        self.epsilon = epsilon
        self.parameters = {"scaler": np.random.rand(n_in), "intercept": np.zeros(n_in)}
        self.gradients = {"scaler": np.zeros(n_in), "intercept": np.zeros(n_in)}

    def forward(self, X):
        self.X.append(X)
        mean, var = X.mean(axis=-1, keepdims=True), X.var(axis=-1, keepdims=True)
        return self.parameters["scaler"] * (X - mean) / np.sqrt(var + self.epsilon) + self.parameters["intercept"]

    def backward(self, dLdy):
        X = self.X[-1]
        mean, var = X.mean(axis=-1, keepdims=True), X.var(axis=-1, keepdims=True)
        istd = 1 / np.sqrt(var + self.epsilon)
        N = (X - mean) * istd
        self.gradients["scaler"] += (dLdy * N).sum(axis=0)
        self.gradients["intercept"] += dLdy.sum(axis=0)
        dN = dLdy * self.parameters["scaler"]
        return istd * (dN - dN.mean(axis=-1, keepdims=True) - N * (dN * N).mean(axis=-1, keepdims=True))


@stranger(("X", "missing term", " - dN.mean(axis=-1, keepdims=True)", ""),
          ("X", "missing term", " - N * (dN * N).mean(axis=-1, keepdims=True)", ""),
          ("X", "missing term", "dN - dN.mean(axis=-1, keepdims=True) -", "dN - dN.sum(axis=-1, keepdims=True) -"),
          ("X", "", "dN.mean(axis=-1, keepdims=True) -", "dN.mean(axis=0, keepdims=True) -"),
          ("parameters.scaler", "mean for sum", "(dLdy * N).sum(axis=0)", "(dLdy * N).mean(axis=0)"))
def layernorm_1d(gradcheck, normal):
    return gradcheck(LayerNorm1D(6), normal(4, 6))


def im2col(X, size, stride):
    N, H, W, C = X.shape
    rows, columns = (H - size) // stride + 1, (W - size) // stride + 1
    i0, j0 = np.meshgrid(np.arange(rows) * stride, np.arange(columns) * stride, indexing="ij")
    i, j = (start.reshape(-1, 1, 1) + step for start, step in (
        (i0, np.arange(size)[:, None]), (j0, np.arange(size)[None, :])))
    return X[:, i, j].reshape(N, rows, columns, size * size * C), i, j


class Conv2D(LayerBase):
    def __init__(self, n_in, n_out, kernel, stride):
        super().__init__()
        self.kernel, self.stride, self.n_out = kernel, stride, n_out
        self.parameters = {"W": np.random.randn(kernel, kernel, n_in, n_out), "b": np.zeros((1, 1, 1, n_out))}
        self.gradients = {name: np.zeros_like(p) for name, p in self.parameters.items()}

    def forward(self, X):
        self.X.append(X)
        columns, *_ = im2col(X, self.kernel, self.stride)
        return columns @ self.parameters["W"].reshape(-1, self.n_out) + self.parameters["b"]

    def backward(self, dLdy):
        X, W = self.X[-1], self.parameters["W"]
        columns, i, j = im2col(X, self.kernel, self.stride)
        dW = columns.reshape(-1, columns.shape[-1]).T @ dLdy.reshape(-1, self.n_out)
        self.gradients["W"] += dW.reshape(W.shape)
        self.gradients["b"] += dLdy.sum(axis=(0, 1, 2), keepdims=True)
        dX, dcolumns = np.zeros_like(X), dLdy @ W.reshape(-1, self.n_out).T
        np.add.at(dX, (slice(None), i, j), dcolumns.reshape(len(X), -1, self.kernel, self.kernel, X.shape[-1]))
        return dX


@stranger(("parameters.W", "flipped", "dW.reshape(W.shape)", "dW.reshape(W.shape)[::-1, ::-1]"),
          ("parameters.b", "shape", '["b"] += dLdy.sum(axis=(0, 1, 2), keepdims=True)', '["b"] = dLdy.sum(axis=0)'),
          ("X", "", "dLdy @ W.reshape", "dLdy @ W[::-1, ::-1].reshape"),
          ("parameters.W", "transposed", "dW.reshape(W.shape)", "dW.reshape(W.shape).transpose(1, 0, 2, 3)"))
def conv_2d(gradcheck, normal):
    return gradcheck(Conv2D(2, 3, kernel=2, stride=1), normal(2, 4, 3, 2))


class Pool2D(LayerBase):
    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def forward(self, X):
        N, H, W, C = X.shape
        self.shape = X.shape
        return X.reshape(N, H // self.kernel, self.kernel, W // self.kernel, self.kernel, C).mean(axis=(2, 4))

    def backward(self, dLdy):
        spread = np.repeat(np.repeat(dLdy, self.kernel, axis=1), self.kernel, axis=2)
        return spread / self.kernel**2


@stranger(("X", "sum for mean", "spread / self.kernel**2", "spread"),
          ("X", "factor", "self.kernel**2", "self.kernel"),
          ("X", "wrong places", "np.repeat(np.repeat(dLdy, self.kernel, axis=1), self.kernel, axis=2)",
           "np.tile(dLdy, (1, self.kernel, self.kernel, 1))"))
def average_pool_2d(gradcheck, normal):
    return gradcheck(Pool2D(2), normal(2, 4, 4, 3))


class Embedding(LayerBase):
    def __init__(self, n_out, vocab_size):
        super().__init__()
        self.parameters = {"W": np.random.randn(vocab_size, n_out)}
        self.gradients = {"W": np.zeros((vocab_size, n_out))}

    def forward(self, X):
        self.X.append(X)
        return self.parameters["W"][X].sum(axis=1)

    def backward(self, dLdy):
        dW = np.zeros_like(self.parameters["W"])
        for ids, dy in zip(self.X[-1], dLdy, strict=True):
            for word in ids:
                dW[word] += dy
        self.gradients["W"] += dW


@stranger(("parameters.W", "part", "dW[word] += dy", "dW[word] = dy"),
          ("parameters.W", "mean for sum", "dW[word] += dy", "dW[word] += dy / len(ids)"),
          ("parameters.W", "part", "for word in ids:", "for word in set(ids.tolist()):"))
def summed_embedding(gradcheck, normal):
    return gradcheck(Embedding(3, 5), np.array([[0, 2, 2], [4, 0, 1]]))


class DotProductAttention(LayerBase):
    def __init__(self, scale=True):
        super().__init__()
        self.scale = scale

    def forward(self, Q, K, V):
        scores = Q @ K.swapaxes(-1, -2) / np.sqrt(K.shape[-1] if self.scale else 1)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        self.kept = [(Q, K, V, weights / weights.sum(axis=-1, keepdims=True))]
        return self.kept[0][3] @ V

    def backward(self, dLdy):
        Q, K, V, weights = self.kept[0]
        scaler = 1 / np.sqrt(K.shape[-1] if self.scale else 1)
        dV = weights.swapaxes(-1, -2) @ dLdy
        dweights = dLdy @ V.swapaxes(-1, -2)
        dscores = weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))
        dQ = dscores @ K * scaler
        dK = dscores.swapaxes(-1, -2) @ Q * scaler
        return dQ, dK, dV


@stranger(("Q", "factor", "dscores @ K * scaler", "dscores @ K"),
          ("K", "factor", "@ Q * scaler", "@ Q * scaler**2"),
          ("Q K", "", "(dweights - (dweights * weights).sum(axis=-1, keepdims=True))", "dweights"),
          ("V", "", "dV = weights.swapaxes(-1, -2) @ dLdy", "dV = weights @ dLdy"),
          ("Q K", "", "(dweights * weights).sum(axis=-1, keepdims=True)", "(dweights * weights)"))
def dot_product_attention(gradcheck, normal):
    return gradcheck(DotProductAttention(), normal(2, 4, 3), normal(2, 4, 3), normal(2, 4, 5))


class Multiply(LayerBase):
    def forward(self, X):
        self.X = X
        product = X[0].copy()
        for x in X[1:]:
            product *= x
        return product

    def backward(self, dLdy):
        grads = [dLdy.copy() for _ in self.X]
        for i, x in enumerate(self.X):
            for j in range(len(self.X)):
                if j != i:
                    grads[j] *= x
        return grads


@stranger(("X.0 X.1 X.2", "", "if j != i:", "if j == i:"),
          ("X.1 X.2", "", "if j != i:", "if j < i:"),
          ("dy", "in place", "dLdy.copy() for _", "dLdy for _"))
def multiply_a_list(gradcheck, normal):
    return gradcheck(Multiply(), [normal(3, 4), normal(3, 4), normal(3, 4)])


class LSTMCell(LayerBase):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.parameters = {name: np.random.randn(n_in + n_out, n_out) for name in ("Wf", "Wu", "Wc", "Wo")}
        self.parameters |= {name: np.zeros((1, n_out)) for name in ("bf", "bu", "bc", "bo")}
        self.gradients = {name: np.zeros_like(p) for name, p in self.parameters.items()}

    def forward(self, X, A_prev, C_prev):
        Z, P = np.hstack([A_prev, X]), self.parameters
        F, U, O = (1 / (1 + np.exp(-(Z @ P[f"W{gate}"] + P[f"b{gate}"]))) for gate in "fuo")
        cell = np.tanh(Z @ P["Wc"] + P["bc"])
        C = F * C_prev + U * cell
        self.step = (Z, C_prev, F, U, O, cell, C)
        return O * np.tanh(C), C

    def backward(self, dLdA, dLdC):
        Z, C_prev, F, U, O, cell, C = self.step
        P, n_out = self.parameters, C.shape[1]
        dC = dLdC + dLdA * O * (1 - np.tanh(C)**2)
        gates = {"f": dC * C_prev * F * (1 - F), "u": dC * cell * U * (1 - U),
                 "o": dLdA * np.tanh(C) * O * (1 - O), "c": dC * U * (1 - cell**2)}
        dZ = 0
        for gate, d in gates.items():
            self.gradients[f"W{gate}"] += Z.T @ d
            self.gradients[f"b{gate}"] += d.sum(axis=0, keepdims=True)
            dZ = dZ + d @ P[f"W{gate}"].T
        return dZ[:, n_out:], dZ[:, :n_out], dC * F


@stranger(("C_prev", "", "dC * F\n", "dC * U\n"),
          ("X A_prev parameters.Wf parameters.bf", "", "dC * C_prev * F", "dC * C * F"),
          ("X A_prev parameters.Wc parameters.bc", "", "dC * U * (1 - cell**2)", "dC * F * (1 - cell**2)"),
          ("X A_prev parameters.Wo parameters.bo", "", "dLdA * np.tanh(C) * O", "dLdA * C * O"),
          ("X A_prev", "overwritten", "dZ = dZ + d @", "dZ = d @"))
def lstm_cell_with_two_outputs(gradcheck, normal):
    return gradcheck(LSTMCell(3, 4), normal(2, 3), normal(2, 4), normal(2, 4))


class Highway(LayerBase):
    def __init__(self, n):
        super().__init__()
        self.parameters = {"Wt": np.random.randn(n, n), "Wh": np.random.randn(n, n), "bt": np.zeros(n)}
        self.gradients = {name: np.zeros_like(p) for name, p in self.parameters.items()}

    def forward(self, X):
        T = 1 / (1 + np.exp(-(X @ self.parameters["Wt"] + self.parameters["bt"])))
        H = np.tanh(X @ self.parameters["Wh"])
        self.derived_variables = {"T": T, "H": H, "X": X}
        return T * H + (1 - T) * X

    def backward(self, dLdy):
        T, H, X = (self.derived_variables[name] for name in "THX")
        dT = dLdy * (H - X) * T * (1 - T)
        dH = dLdy * T * (1 - H**2)
        self.gradients["Wt"] += X.T @ dT
        self.gradients["bt"] += dT.sum(axis=0)
        self.gradients["Wh"] += X.T @ dH
        return dLdy * (1 - T) + dT @ self.parameters["Wt"].T + dH @ self.parameters["Wh"].T


@stranger(("X", "", "dLdy * (1 - T) + ", ""),
          ("X parameters.Wt parameters.bt", "", "(H - X) * T", "H * T"),
          ("parameters.Wh", "transposed", '["Wh"] += X.T @ dH', '["Wh"] += (X.T @ dH).T'),
          ("X", "", 'dT @ self.parameters["Wt"].T', 'dT @ self.parameters["Wt"]'))
def highway(gradcheck, normal):
    return gradcheck(Highway(4), normal(3, 4))
