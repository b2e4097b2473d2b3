"""A scalar function and its gradient, as optimisers take them: `f(x)` and `grad(x)`, or both at once."""

import numpy as np

from .collection import stranger


def rosen(x):
    return np.sum(100 * (x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)


def rosen_der(x):
    der = np.zeros_like(x)
    inner = x[1:] - x[:-1]**2
    der[:-1] = -400 * x[:-1] * inner - 2 * (1 - x[:-1])
    der[1:] += 200 * inner
    return der


@stranger(("x", "", "der[1:] += 200 * inner", "der[1:] = 200 * inner"),
          ("x", "", "- 2 * (1 - x[:-1])", "+ 2 * (1 - x[:-1])"),
          ("x", "", "-400 * x[:-1]", "-200 * x[:-1]"),
          ("x", "part", "der[1:] += 200 * inner", "der[1:-1] += 200 * inner[:-1]"))
def rosenbrock(gradcheck, normal):
    return gradcheck((rosen, rosen_der), normal(6))


def logistic_loss(w, X, y, C):
    z = y * (X @ w)
    return np.logaddexp(0, -z).sum() + 0.5 / C * w @ w


def logistic_grad(w, X, y, C):
    z = y * (X @ w)
    return X.T @ (-y / (1 + np.exp(z))) + w / C


@stranger(("w", "missing term", " + w / C", ""),
          ("w", "missing term", " + w / C", " + 2 * w / C"),
          ("w", "", "np.exp(z)", "np.exp(-z)"),
          ("w", "mean for sum", "return X.T @ (-y / (1 + np.exp(z))) + w / C",
           "return (X.T @ (-y / (1 + np.exp(z))) + w / C) / len(X)"))
def logistic_regression(gradcheck, normal):
    X, y = normal(8, 4), np.sign(normal(8))
    return gradcheck((lambda w: logistic_loss(w, X, y, 2.0), lambda w: logistic_grad(w, X, y, 2.0)), normal(4))


def ridge(theta, X, y, alpha):
    w, b = theta[:-1], theta[-1]
    r = X @ w + b - y
    loss = 0.5 * r @ r + 0.5 * alpha * w @ w
    grad = np.append(X.T @ r + alpha * w, r.sum())
    return loss, grad


@stranger(("theta", "part", "r.sum())", "r.mean())"),
          ("theta", "", "X.T @ r + alpha * w", "X.T @ r"),
          ("theta", "part", "r.sum())", "0)"),
          ("theta", "factor", "return loss, grad", "return loss, 2 * grad"))
def ridge_with_bias(gradcheck, normal):
    X, y = normal(8, 4), normal(8)
    return gradcheck(tuple(lambda theta, i=i: ridge(theta, X, y, 0.3)[i] for i in (0, 1)), normal(5))


def softmax_regression(theta, X, Y, lam):
    W = theta.reshape(X.shape[1], Y.shape[1])
    Z = X @ W
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    cost = -np.sum(Y * np.log(P)) / len(X) + lam / 2 * np.sum(W * W)
    gradient = -X.T @ (Y - P) / len(X) + lam * W
    return cost, gradient.ravel()


@stranger(("theta", "wrong places", "gradient.ravel()", "gradient.ravel(order='F')"),
          ("theta", "missing term", " + lam * W\n", "\n"),
          ("theta", "sum for mean", "/ len(X) + lam * W", "+ len(X) * lam * W"),
          ("theta", "sign", "gradient.ravel()", "-gradient.ravel()"))
def softmax_regression_flat(gradcheck, normal):
    X, Y = normal(6, 4), np.eye(3)[[0, 2, 1, 1, 0, 2]]
    return gradcheck(tuple(lambda theta, i=i: softmax_regression(theta, X, Y, 0.1)[i] for i in (0, 1)), normal(12))


def gaussian_nll(params, x):
    mu, log_sigma = params
    z = (x - mu) / np.exp(log_sigma)
    return np.mean(0.5 * z**2 + log_sigma + 0.5 * np.log(2 * np.pi))


def gaussian_nll_grad(params, x):
    mu, log_sigma = params
    z = (x - mu) / np.exp(log_sigma)
    return np.array([-np.mean(z) / np.exp(log_sigma), 1 - np.mean(z**2)])


@stranger(("params", "part", "-np.mean(z) / np.exp(log_sigma)", "-np.mean(z)"),
          ("params", "part", "1 - np.mean(z**2)", "-np.mean(z**2)"),
          ("params", "", "-np.mean(z) /", "np.mean(z) /"),
          ("params", "sum for mean", "return np.array([-np.mean(z) / np.exp(log_sigma), 1 - np.mean(z**2)])",
           "return len(x) * np.array([-np.mean(z) / np.exp(log_sigma), 1 - np.mean(z**2)])"))
def gaussian_likelihood(gradcheck, normal):
    x = normal(9)
    return gradcheck((lambda params: gaussian_nll(params, x), lambda params: gaussian_nll_grad(params, x)), normal(2))


def huber(r, delta=0.7):
    small = np.abs(r) <= delta
    return np.where(small, 0.5 * r**2, delta * (np.abs(r) - 0.5 * delta)).sum()


def huber_grad(r, delta=0.7):
    small = np.abs(r) <= delta
    return np.where(small, r, delta * np.sign(r))


@stranger(("r", "slope", "delta * np.sign(r))", "np.sign(r))"),
          ("r", "slope", "np.where(small, r, delta * np.sign(r))", "r"),
          ("r", "slope", "np.where(small, r,", "np.where(small, 2 * r,"),
          ("r", "slope", "delta * np.sign(r))", "delta)"))
def huber_loss(gradcheck, normal):
    return gradcheck((huber, huber_grad), normal(10))


def poisson(beta, X, counts):
    rate = np.exp(X @ beta)
    return np.sum(rate - counts * np.log(rate)), X.T @ (rate - counts)


@stranger(("beta", "sign", "X.T @ (rate - counts)", "X.T @ (counts - rate)"),
          ("beta", "", "X.T @ (rate - counts)", "X.T @ (rate - counts / rate)"),
          ("beta", "mean for sum", "X.T @ (rate - counts)", "X.T @ (rate - counts) / len(X)"))
def poisson_regression(gradcheck, normal):
    X, counts = normal(7, 3), np.array([0, 2, 1, 5, 3, 0, 1])
    return gradcheck(tuple(lambda beta, i=i: poisson(beta, X, counts)[i] for i in (0, 1)), 0.3 * normal(3))


def lasso_smooth(w, X, y):
    return float(np.sqrt((X @ w - y)**2 + 1e-2).mean()) + 0.1 * float(np.log(np.cosh(w)).sum())


def lasso_smooth_grad(w, X, y):
    r = X @ w - y
    return X.T @ (r / np.sqrt(r**2 + 1e-2)) / len(y) + 0.1 * np.tanh(w)


@stranger(("w", "", "np.tanh(w)", "np.sign(w)"),
          ("w", "", "r / np.sqrt(r**2 + 1e-2)", "r / np.sqrt(r**2 + 1e-1)"),
          ("w", "", " + 0.1 * np.tanh(w)", ""))
def smooth_lasso(gradcheck, normal):
    X, y = normal(8, 5), normal(8)
    return gradcheck((lambda w: lasso_smooth(w, X, y), lambda w: lasso_smooth_grad(w, X, y)), normal(5))
