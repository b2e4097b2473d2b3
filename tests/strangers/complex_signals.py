"""Layers with complex numbers inside, or as inputs and outputs.

For a complex z = a + i b the gradient of a real loss is dL/da + i dL/db, as PyTorch has it. A linear map y = A z then
has the backward dz = A^H dy.
"""

import numpy as np

from .collection import stranger


def complex_linear(z, A):
    return z @ A, (z, A)


def complex_linear_vjp(dy, cache):
    z, A = cache
    return dy @ A.conj().T, z.conj().T @ dy


@stranger(("z", "", "dy @ A.conj().T", "dy @ A.T"),
          ("A", "", "z.conj().T @ dy", "z.T @ dy"),
          ("z", "", "dy @ A.conj().T", "(dy @ A.conj().T).conj()"))
def complex_linear_map(gradcheck, normal):
    return gradcheck((complex_linear, complex_linear_vjp), normal(3, 4) + 1j * normal(3, 4),
                     normal(4, 2) + 1j * normal(4, 2))


def fft_filter(x, H):
    X = np.fft.fft(x, axis=-1)
    return np.fft.ifft(X * H, axis=-1).real, (X, H)


def fft_filter_vjp(dy, cache):
    X, H = cache
    dY = np.fft.fft(dy, axis=-1) / dy.shape[-1]
    dH = (dY * X.conj()).sum(axis=0)
    dx = dy.shape[-1] * np.fft.ifft(dY * H.conj(), axis=-1).real
    return dx, dH


@stranger(("H", "", "dY * X.conj()", "dY * X"),
          ("x", "", "dY * H.conj()", "dY * H"),
          ("x", "", "dx = dy.shape[-1] * np", "dx = np"),
          ("H", "missing sum", "(dY * X.conj()).sum(axis=0)", "(dY * X.conj())[0]"))
def fft_filter_layer(gradcheck, normal):
    return gradcheck((fft_filter, fft_filter_vjp), normal(3, 8), normal(8) + 1j * normal(8))


def fourier_mixing(x):
    return np.fft.fft2(x, axes=(1, 2)).real, None


def fourier_mixing_vjp(dy, cache):
    return np.fft.fft2(dy, axes=(1, 2)).real


@stranger(("x", "", "np.fft.fft2(dy, axes=(1, 2)).real", "np.fft.ifft2(dy, axes=(1, 2)).real"),
          ("x", "", "np.fft.fft2(dy, axes=(1, 2)).real", "np.fft.fft2(dy, axes=(1, 2)).imag"),
          ("x", "", "np.fft.fft2(dy, axes=(1, 2)).real", "np.fft.fft(dy, axis=1).real"))
def fourier_mixing_layer(gradcheck, normal):
    return gradcheck((fourier_mixing, fourier_mixing_vjp), normal(2, 4, 3))


def power_spectrum(x):
    X = np.fft.rfft(x)
    return np.abs(X)**2, (X, x.shape[-1])


def power_spectrum_vjp(dy, cache):
    X, n = cache
    dX = 2 * dy * X
    padded = np.zeros((*dX.shape[:-1], n), dtype=complex)
    padded[..., :dX.shape[-1]] = dX
    return n * np.fft.ifft(padded).real


@stranger(("x", "factor", "2 * dy * X", "dy * X"),
          ("x", "", "np.fft.ifft(padded)", "np.fft.fft(padded)"),
          ("x", "", "return n * np.fft.ifft(padded).real", "return np.fft.irfft(dX, n) * n"))
def power_spectrum_layer(gradcheck, normal):
    return gradcheck((power_spectrum, power_spectrum_vjp), normal(2, 8))


def phase_rotation(z, theta):
    turn = np.exp(1j * theta)
    return z * turn, (z, turn)


def phase_rotation_vjp(dy, cache):
    z, turn = cache
    return dy * turn.conj(), (dy.conj() * 1j * z * turn).real.sum(axis=0)


@stranger(("z", "", "dy * turn.conj()", "dy * turn"),
          ("theta", "", "(dy.conj() * 1j * z * turn).real", "(dy * 1j * z * turn).real"),
          ("theta", "missing sum", ".real.sum(axis=0)", ".real[0]"),
          ("theta", "sign", "(dy.conj() * 1j", "(-dy.conj() * 1j"))
def phase_rotation_layer(gradcheck, normal):
    return gradcheck((phase_rotation, phase_rotation_vjp), normal(3, 4) + 1j * normal(3, 4), normal(4))


def quantum_expectation(psi, hamiltonian):
    return float(np.vdot(psi, hamiltonian @ psi).real)


def quantum_expectation_grad(psi, hamiltonian):
    return 2 * hamiltonian @ psi


@stranger(("psi", "factor", "2 * hamiltonian @ psi", "hamiltonian @ psi"),
          ("psi", "", "2 * hamiltonian @ psi", "2 * (hamiltonian @ psi).conj()"),
          ("psi", "", "2 * hamiltonian @ psi", "2 * hamiltonian.T @ psi"))
def quantum_expectation_value(gradcheck, normal):
    H = (lambda a: a + a.conj().T)(normal(4, 4) + 1j * normal(4, 4))
    f, grad = lambda psi: quantum_expectation(psi, H), lambda psi: quantum_expectation_grad(psi, H)
    return gradcheck((f, grad), normal(4) + 1j * normal(4))
