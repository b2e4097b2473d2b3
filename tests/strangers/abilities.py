"""What can a checker do? Each ability is a right function that the checker must accept, and wrong ones it must refuse.

Every checker is used as its documentation says, on arrays and functions of its own kind: the adapters below wrap the
same NumPy functions. A checker has an ability if all verdicts are as they should be. An exception is a refusal, of the
right function too. SciPy and numdifftools get sum(y * dy) with a random dy, if there is one input and one result.
"""

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

Check = Callable[..., tuple[bool, str]]                               # (case, inputs, loose) -> accepted, its words
RNG = np.random.default_rng(8)
LOOSE = 1e-2                                                          # tolerance for code in float32


@dataclass(frozen=True)
class Case:
    """A NumPy function. forward(*inputs) -> result or tuple of results; vjp(inputs, dy) -> tuple of gradients.

    Gradients of complex inputs follow PyTorch's convention. layer: the same as an object, if it has a state. minivit
    checks objects; the others check functions that call them.
    """

    forward: Callable
    vjp: Callable
    layer: object = None


@dataclass(frozen=True)
class Ability:
    """inputs: makes them. right: accepted. wrong: refused. named: what the refusal must say, if anything."""

    name: str
    inputs: Callable
    right: Case
    wrong: tuple[Case, ...]
    named: str = ""
    loose: bool = False

    def of(self, check: Check) -> bool:
        """Return whether a checker has it."""
        def verdict(case):
            np.random.seed(0)                                         # some checkers draw from this generator
            try:
                with np.errstate(all="ignore"):
                    return check(deepcopy(case), self.inputs(), self.loose)   # a case with a state starts anew
            except ImportError:                                       # no verdict, but a broken environment
                raise
            except Exception as error:
                return False, str(error)

        refused = [verdict(case) for case in self.wrong]
        return verdict(self.right)[0] and not any(ok for ok, _ in refused) and all(
            re.search(self.named, said) for _, said in refused)


# ---- the checkers ---------------------------------------------------------------------------------------


def minivit_check(case: Case, inputs: list, loose: bool) -> tuple[bool, str]:
    """minivit.gradcheck of a pair of functions, or of an object."""
    import minivit

    def forward(*inputs):
        return case.forward(*inputs), inputs

    pair = (forward, lambda dy, inputs: case.vjp(inputs, dy))
    report = minivit.gradcheck(case.layer or pair, *inputs, **({"tolerance": LOOSE} if loose else {}))
    return report.ok, str(report)


def torch_check(case: Case, inputs: list, loose: bool) -> tuple[bool, str]:
    """torch.autograd.gradcheck of a custom Function."""
    import torch

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ctx.save_for_backward(*tensors)
            y = case.forward(*(t.detach().numpy() for t in tensors))
            return tuple(map(torch.from_numpy, y)) if isinstance(y, tuple) else torch.from_numpy(np.asarray(y))

        @staticmethod
        def backward(ctx, *dy):
            upstream = tuple(d.resolve_conj().numpy() for d in dy)
            gradients = case.vjp([t.detach().numpy() for t in ctx.saved_tensors],
                                 upstream if len(dy) > 1 else upstream[0])
            return tuple(torch.from_numpy(np.array(g)) for g in gradients)

    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    options = {"eps": LOOSE, "atol": LOOSE, "rtol": LOOSE} if loose else {}
    return torch.autograd.gradcheck(Function.apply, tensors, **options), ""


def jax_check(case: Case, inputs: list, loose: bool) -> tuple[bool, str]:
    """jax.test_util.check_grads of a custom_vjp; JAX has the complex conjugate of PyTorch's gradients."""
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)

    def like(values):
        return jax.tree.map(lambda y: jax.ShapeDtypeStruct(np.shape(y), np.asarray(y).dtype), values)

    result = like(case.forward(*map(np.array, inputs)))

    @jax.custom_vjp
    def function(*xs):
        return jax.pure_callback(lambda *xs: case.forward(*map(np.asarray, xs)), result, *xs)

    def backward(xs, dy):
        return tuple(jax.pure_callback(lambda dy, *xs: tuple(
            np.conj(g) for g in case.vjp([*map(np.asarray, xs)], jax.tree.map(np.conj, dy))), like(list(inputs)),
            dy, *xs))

    function.defvjp(lambda *xs: (function(*xs), xs), backward)
    options = {"eps": LOOSE, "atol": LOOSE, "rtol": LOOSE} if loose else {}
    check_grads(function, tuple(inputs), order=1, modes=["rev"], **options)
    return True, ""


def autograd_check(case: Case, inputs: list, loose: bool) -> tuple[bool, str]:
    """autograd.test_util.check_grads of a primitive; its tolerance is fixed. autograd conjugates as JAX does."""
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    function = primitive(lambda *xs: case.forward(*xs))
    defvjp(function, *[lambda y, *xs, i=i: lambda dy: np.conj(case.vjp(xs, np.conj(dy))[i])
                       for i in range(len(inputs))])
    check_grads(function, tuple(range(len(inputs))), modes=["rev"], order=1)(*inputs)
    return True, ""


def _loss(case, inputs):
    """Return sum(y * dy) as a function of one input, and its gradient."""
    (x,) = inputs
    y = case.forward(np.array(x))
    dy = np.random.default_rng(3).standard_normal(np.shape(y)).astype(y.dtype)
    return (lambda v: float(np.sum(case.forward(v.reshape(x.shape).astype(x.dtype)) * dy)),
            lambda v: np.ravel(case.vjp([v.reshape(x.shape).astype(x.dtype)], dy)[0]), np.ravel(x))


def scipy_check(case: Case, inputs: list, loose: bool) -> tuple[bool, str]:
    """scipy.optimize.check_grad, of which an error of 1e-5 of the gradient is accepted."""
    from scipy.optimize import check_grad

    loss, gradient, x = _loss(case, inputs)
    error = check_grad(loss, gradient, x, **({"epsilon": LOOSE} if loose else {}))
    return bool(error <= (LOOSE if loose else 1e-5) * np.linalg.norm(gradient(x))), f"{error}"


def numdifftools_check(case: Case, inputs: list, loose: bool) -> tuple[bool, str]:
    """numdifftools.Gradient, of which an error of 1e-6 or its own estimate is accepted."""
    import numdifftools

    loss, gradient, x = _loss(case, inputs)
    found = numdifftools.Gradient(loss, full_output=True)(x)
    numeric, analytic = np.ravel(found.estimate), gradient(x)
    size = np.maximum(np.abs(numeric), np.abs(analytic))
    allowed = np.maximum((LOOSE if loose else 1e-6) * size, np.ravel(found.error_estimate))
    return bool((np.abs(numeric - analytic) <= allowed).all()), f"{numeric} {analytic}"


CHECKS: dict[str, tuple[Check, str]] = {
    "minivit": (minivit_check, "numpy"), "torch": (torch_check, "torch"), "jax": (jax_check, "jax"),
    "autograd": (autograd_check, "autograd"), "scipy": (scipy_check, "scipy"),
    "numdifftools": (numdifftools_check, "numdifftools")}


# ---- the abilities --------------------------------------------------------------------------------------


def _drawn(*shapes, scale=1.0):
    return lambda: [scale * np.random.default_rng(5).standard_normal(shape) for shape in shapes]


def _of_one(forward, slope):
    """Return the case of a function that computes each entry of its result from one entry of x."""
    return Case(forward, lambda inputs, dy: (dy * slope(inputs[0]),))


def _product(factor=1.0):
    return Case(lambda x, w: x @ w, lambda inputs, dy: (dy @ inputs[1].T, factor * inputs[0].T @ dy))


def _two_results(factor):
    return Case(lambda x: (np.sin(x), x**2), lambda inputs, dy: (
        dy[0] * np.cos(inputs[0]) + factor * dy[1] * inputs[0],))


class _Accumulates:
    """The gradient of x**3. Each call adds to the result of the call before."""

    def __init__(self):
        self.gradient = 0.0

    def vjp(self, inputs, dy):
        self.gradient = self.gradient + 3 * inputs[0] ** 2 * dy
        return (self.gradient,)


class _Remembers:
    """The function x**2. Its backward uses the input of the first call forever."""

    def __init__(self):
        self.x = None

    def forward(self, x):
        self.x = x.copy() if self.x is None else self.x
        return x**2

    def backward(self, dy):
        return 2 * self.x * dy

    def vjp(self, inputs, dy):
        self.forward(*inputs)
        return (self.backward(dy),)


def _changing_its_input(x):
    y = x**2
    x *= 1.5
    return y


def _off_at(index):
    def slope(x):
        g = 2 * x
        g[index] *= 1.01
        return g
    return slope


def _float32(factor):
    return Case(lambda x: (x.astype(np.float32) ** 2).astype(x.dtype),
                lambda inputs, dy: ((factor * 2 * inputs[0].astype(np.float32) * dy).astype(inputs[0].dtype),))


square = _of_one(lambda x: x**2, lambda x: 2 * x)
relu = _of_one(lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0))
ABILITIES = [
    Ability("several inputs", _drawn((3, 4), (4, 2)), _product(), (_product(1.01),)),
    Ability("names the wrong one of them", _drawn((3, 4), (4, 2)), _product(), (_product(1.01),),
            r"(?m)^w .*WRONG|input 1|argument 1|argnum 1"),
    Ability("several results", _drawn((3, 4)), _two_results(2), (_two_results(2.02),)),
    Ability("complex numbers", lambda: [_drawn((5,))()[0] + 1j * _drawn((5,))()[0][::-1]],
            _of_one(lambda z: np.abs(z) ** 2, lambda z: 2 * z),
            (_of_one(lambda z: np.abs(z) ** 2, lambda z: 2 * z.conj()),)),
    Ability("inputs of size 1e-8, results of size 1e8", _drawn((3, 4), scale=1e-8),
            _of_one(lambda x: 1e8 * np.sin(1e8 * x), lambda x: 1e16 * np.cos(1e8 * x)),
            (_of_one(lambda x: 1e8 * np.sin(1e8 * x), lambda x: 1.001e16 * np.cos(1e8 * x)),)),
    Ability("a mistake of 0.1%", _drawn((3, 4)), square, (_of_one(square.forward, lambda x: 2.002 * x),)),
    Ability("one of 2,000 entries 1% too large", _drawn((2000,)), square, (_of_one(square.forward, _off_at(777)),)),
    Ability("ReLU at exact zeros", lambda: [np.array([-1.0, 0.0, 2.0, 0.0, 0.5, -0.7, 1.1])], relu,
            (_of_one(relu.forward, lambda x: 1.0 * (x > -0.8)),)),
    Ability("code in float32, with a tolerance for it", lambda: [x.astype(np.float32) for x in _drawn((3, 4))()],
            _float32(1), (_float32(1.1),), loose=True),
    Ability("a backward that clips dy to the range from -1 to 1", _drawn((3, 4)), square,
            (Case(square.forward, lambda inputs, dy: (2 * inputs[0] * np.clip(dy, -1, 1),)),)),
    Ability("a random forward", _drawn((3, 4)), square,
            (Case(lambda x: x**2 * (RNG.random(x.shape) < 0.5), square.vjp),)),
    Ability("a forward that changes its input", _drawn((3, 4)), square, (Case(_changing_its_input, square.vjp),)),
    Ability("a backward that adds to its last result", _drawn((3, 4)), square,
            (Case(lambda x: x**3, _Accumulates().vjp),)),
    Ability("a backward that remembers its first input", _drawn((3, 4)), square,
            (Case(square.forward, _Remembers().vjp, _Remembers()),)),
    Ability("says what the mistake is", _drawn((3, 4), (4, 4)), _product(),
            (Case(_product().forward, lambda inputs, dy: (dy @ inputs[1], inputs[0].T @ dy)),), "transposed"),
]


# ---- other derivatives: of x**3, for which `factor` times the right derivative is given -----------------


def minivit_jvp(x: np.ndarray, factor: float) -> bool:
    """minivit.gradcheck of three functions."""
    import minivit

    return minivit.gradcheck((lambda x: (x**3, x), lambda dy, x: 3 * x**2 * dy, lambda dx, x: factor * 3 * x**2 * dx),
                             x).ok


def torch_jvp(x: np.ndarray, factor: float) -> bool:
    """torch.autograd.gradcheck of the forward mode."""
    import torch

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)
            return x**3

        @staticmethod
        def backward(ctx, dy):
            return 3 * ctx.saved_tensors[0] ** 2 * dy

        @staticmethod
        def jvp(ctx, dx):
            return factor * 3 * ctx.saved_tensors[0] ** 2 * dx

    return torch.autograd.gradcheck(Function.apply, [torch.tensor(x, requires_grad=True)], check_forward_ad=True)


def jax_jvp(x: np.ndarray, factor: float) -> bool:
    """jax.test_util.check_grads of a custom_jvp."""
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    function = jax.custom_jvp(lambda x: x**3)
    function.defjvp(lambda xs, dxs: (xs[0] ** 3, factor * 3 * xs[0] ** 2 * dxs[0]))
    check_grads(function, (x,), order=1, modes=["fwd"])
    return True


def autograd_jvp(x: np.ndarray, factor: float) -> bool:
    """autograd.test_util.check_grads of the forward mode."""
    from autograd.extend import defjvp, primitive
    from autograd.test_util import check_grads

    function = primitive(lambda x: x**3)
    defjvp(function, lambda dx, y, x: factor * 3 * x**2 * dx)
    check_grads(function, modes=["fwd"], order=1)(x)
    return True


def minivit_second(x: np.ndarray, factor: float) -> bool:
    """minivit.gradcheck of a function with its gradient and its Hessian-vector product."""
    import minivit

    return minivit.gradcheck((lambda x: (x**3).sum(), lambda x: 3 * x**2, lambda x, v: factor * 6 * x * v), x).ok


def torch_second(x: np.ndarray, factor: float) -> bool:
    """torch.autograd.gradgradcheck."""
    import torch

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, dy):
            return Slope.apply(ctx.saved_tensors[0], dy)

    class Slope(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, dy):
            ctx.save_for_backward(x, dy)
            return 3 * x**2 * dy

        @staticmethod
        def backward(ctx, d):
            x, dy = ctx.saved_tensors
            return factor * 6 * x * dy * d, 3 * x**2 * d

    return torch.autograd.gradgradcheck(Function.apply, [torch.tensor(x, requires_grad=True)])


def jax_second(x: np.ndarray, factor: float) -> bool:
    """jax.test_util.check_grads of second order."""
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    slope = jax.custom_vjp(lambda x: 3 * x**2)
    slope.defvjp(lambda x: (slope(x), x), lambda x, dy: (factor * 6 * x * dy,))
    function = jax.custom_vjp(lambda x: x**3)
    function.defvjp(lambda x: (function(x), x), lambda x, dy: (slope(x) * dy,))
    check_grads(function, (x,), order=2, modes=["rev"])
    return True


def autograd_second(x: np.ndarray, factor: float) -> bool:
    """autograd.test_util.check_grads of second order."""
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    slope = primitive(lambda x: 3 * x**2)
    defvjp(slope, lambda y, x: lambda dy: factor * 6 * x * dy)
    function = primitive(lambda x: x**3)
    defvjp(function, lambda y, x: lambda dy: slope(x) * dy)
    check_grads(function, modes=["rev"], order=2)(x)
    return True


_JVPS = {"minivit": minivit_jvp, "torch": torch_jvp, "jax": jax_jvp, "autograd": autograd_jvp}
OTHERS: dict[str, dict[str, Callable[[np.ndarray, float], bool]]] = {
    "forward-mode derivatives": _JVPS, "forward mode against backward, to 1e-7": _JVPS,
    "second derivatives": {"minivit": minivit_second, "torch": torch_second, "jax": jax_second,
                           "autograd": autograd_second}}


def has_other(name: str, checker: str) -> bool:
    """Return whether a checker accepts the right derivative of this kind and refuses one that is too large."""
    if checker not in OTHERS[name]:
        return False

    def accepted(factor):
        np.random.seed(0)
        try:
            return OTHERS[name][checker](np.random.default_rng(5).standard_normal(4), factor)
        except ImportError:
            raise
        except Exception:
            return False

    return accepted(1.0) and not accepted(1 + 1e-7 if "1e-7" in name else 1.01)


def abilities_of(checker: str) -> dict[str, bool]:
    """Return which abilities a checker has."""
    check, _ = CHECKS[checker]
    return {ability.name: ability.of(check) for ability in ABILITIES} | {
        name: has_other(name, checker) for name in OTHERS}
