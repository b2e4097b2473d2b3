"""Functions of PyTorch, JAX, autograd and MyGrad: right gradients pass, planted mistakes are caught and named."""

import functools
import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import minivit
from minivit.testing.files import check_file

RNG = np.random.default_rng(8)
X, W, BETA = RNG.standard_normal((3, 5)), RNG.standard_normal((5, 4)), 1 + 0.5 * RNG.standard_normal(5)


def needs(name):
    """A mark for tests of a framework that may be missing."""
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"needs {name}")


def wrong(report):
    """The names of the wrong tensors."""
    return [row.tensor for row in report.rows if not row.ok]


# ---- the same functions in each framework: a swish with a learned beta, and a layer of tanh ----------------

def in_torch(mistake=""):
    import torch

    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, beta):
            ctx.save_for_backward(x, beta)
            return x * torch.sigmoid(beta * x)

        @staticmethod
        def backward(ctx, dy):
            x, beta = ctx.saved_tensors
            gate = torch.sigmoid(beta * x)
            dz = dy * x * gate * (1 - gate)
            dx = dy * gate if mistake == "x" else dy * gate + dz * beta
            return dx, (dz * x).mean(0) if mistake == "beta" else (dz * x).sum(0)

    return Swish, torch.as_tensor, lambda x, w: torch.tanh(x @ w)


def in_jax(mistake=""):
    import jax

    @jax.custom_vjp
    def swish(x, beta):
        return x * jax.nn.sigmoid(beta * x)

    def backward(saved, dy):
        x, beta = saved
        gate = jax.nn.sigmoid(beta * x)
        dz = dy * x * gate * (1 - gate)
        dx = dy * gate if mistake == "x" else dy * gate + dz * beta
        return dx, (dz * x).mean(0) if mistake == "beta" else (dz * x).sum(0)

    swish.defvjp(lambda x, beta: (swish(x, beta), (x, beta)), backward)
    return swish, jax.numpy.asarray, lambda x, w: jax.numpy.tanh(x @ w)


def in_autograd(mistake=""):
    import autograd.numpy as anp
    from autograd.extend import defvjp, primitive

    @primitive
    def swish(x, beta):
        return x / (1 + anp.exp(-beta * x))

    def parts(x, beta, dy):
        gate = 1 / (1 + anp.exp(-beta * x))
        return gate, dy * x * gate * (1 - gate)

    def dx(y, x, beta):
        return lambda dy: dy * parts(x, beta, dy)[0] + (0 if mistake == "x" else parts(x, beta, dy)[1] * beta)

    def dbeta(y, x, beta):
        reduce = anp.mean if mistake == "beta" else anp.sum
        return lambda dy: reduce(parts(x, beta, dy)[1] * x, axis=0)

    defvjp(swish, dx, dbeta)
    return lambda x, beta: swish(x, beta), np.asarray, lambda x, w: anp.tanh(anp.dot(x, w))


def in_mygrad(mistake=""):
    import mygrad
    from mygrad.operation_base import Operation

    class Swish(Operation):
        def __call__(self, x, beta):
            self.variables = x, beta
            self.gate = 1 / (1 + np.exp(-beta.data * x.data))
            return x.data * self.gate

        def backward_var(self, grad, index, **_):
            x, beta = (v.data for v in self.variables)
            dz = grad * x * self.gate * (1 - self.gate)
            if index == 1:
                return (dz * x).mean(0) if mistake == "beta" else (dz * x).sum(0)
            return grad * self.gate if mistake == "x" else grad * self.gate + dz * beta

    return lambda x, beta: mygrad.execute_op(Swish, x, beta), mygrad.tensor, lambda x, w: mygrad.tanh(x @ w)


IN = [pytest.param(in_torch, marks=needs("torch"), id="torch"), pytest.param(in_jax, marks=needs("jax"), id="jax"),
      pytest.param(in_autograd, marks=needs("autograd"), id="autograd"),
      pytest.param(in_mygrad, marks=needs("mygrad"), id="mygrad")]


@pytest.mark.parametrize("make", IN)
@pytest.mark.parametrize("seed", range(3))
def test_right_gradients_pass_in_float64(make, seed):
    swish, array, layer = make()
    for function, inputs in ((swish, (X, BETA)), (layer, (X, W))):
        report = minivit.gradcheck(function, *map(array, inputs), seed=seed)
        assert report.ok, report
        assert report.worst < 1e-9
        assert [row.entries for row in report.rows] == [x.size for x in inputs]


@pytest.mark.parametrize("make", IN)
@pytest.mark.parametrize(("tensor", "hint"), [("x", "the slope of the result is"), ("beta", "a mean instead of a sum")])
def test_a_wrong_backward_is_caught_with_the_tensor_named_and_a_hint(make, tensor, hint):
    swish, array, _ = make(tensor)
    report = minivit.gradcheck(swish, array(X), array(BETA))
    assert wrong(report) == [tensor]
    assert hint in str(report)


@pytest.mark.parametrize("make", IN)
def test_arguments_have_the_names_that_the_function_gives_them(make):
    _, array, layer = make()
    assert [row.tensor for row in minivit.gradcheck(layer, array(X), w=array(W)).rows] == ["x", "w"]


@pytest.mark.parametrize("make", IN)
def test_constants_and_a_given_dy(make):
    _, array, layer = make()
    report = minivit.gradcheck(layer, array(X), array(W), constants="w", dy=array(np.ones((3, 4))))
    assert [row.tensor for row in report.rows] == ["x"]
    assert report.inventory == {"w": "constant"}
    with pytest.raises(ValueError, match="unknown constant"):
        minivit.gradcheck(layer, array(X), array(W), constants="z")
    with pytest.raises(ValueError, match="wrong structure of dy"):
        minivit.gradcheck(layer, array(X), array(W), dy=array(np.ones((2, 4))))


@pytest.mark.parametrize("make", IN)
def test_trees_of_inputs_and_results(make):
    _, array, layer = make()
    inputs = {"w": array(W), "more": [array(BETA), 2]}
    report = minivit.gradcheck(lambda x, p: {"a": layer(x, p["w"]), "b": (x * p["more"][0], p["more"][1])}, array(X),
                               inputs)
    assert report.ok, report
    assert [row.tensor for row in report.rows] == ["x", "p.w", "p.more.0"]


@pytest.mark.parametrize("make", IN)
def test_infinity_among_the_inputs_is_one_line(make):
    _, array, layer = make()
    with pytest.raises(ValueError, match=r"^wrong values in x: found NaN or infinity.*constants=\('x',\)$"):
        minivit.gradcheck(layer, array(np.full((3, 5), np.inf)), array(W))


def test_no_framework_is_imported():
    code = ("import sys, numpy, minivit; minivit.gradcheck((lambda x: (x**3, x), lambda dy, x: 3 * x**2 * dy), "
            "numpy.ones(3)); print(*{'torch', 'jax', 'autograd', 'mygrad', 'numba', 'matplotlib'} & set(sys.modules))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.parametrize("make", [IN[0], IN[1], IN[3]])
@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_pair_written_by_hand_for_the_arrays_of_a_framework(make, factor):
    _, array, _ = make()

    def forward(x, w):
        return x @ w, (x, w)

    def backward(dy, cache):
        x, w = cache
        return factor * dy @ w.T, x.T @ dy

    report = minivit.gradcheck((forward, backward), array(X), array(W))
    assert wrong(report) == ([] if factor == 1 else ["x"])


@needs("torch")
@pytest.mark.parametrize("name", ["forward", "backward"])
def test_a_pair_by_hand_that_changes_a_tensor_is_refused(name):
    import torch

    def forward(x):
        kept = x.clone()
        if name == "forward":
            x.mul_(2)
        return kept * kept, kept

    def backward(dy, x):
        g = 2 * x * dy
        if name == "backward":
            dy.mul_(2)
        return g

    changed = {"forward": "x", "backward": "dy"}[name]
    with pytest.raises(ValueError, match=f"^the {name} changes {changed}: found other values after the call"):
        minivit.gradcheck((forward, backward), torch.tensor(X))


FILE = """
import torch

class Net(torch.nn.Sequential):
    def __init__(self, width):
        super().__init__(torch.nn.Linear(width, 2), torch.nn.Tanh())

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        return ctx.saved_tensors[0] * dy
"""


@needs("torch")
def test_modules_and_functions_in_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    report = check_file(f"{tmp_path}/mine.py:Net", ["3x4"])
    assert report.ok
    assert [row.tensor for row in report.rows] == ["input", "0.weight", "0.bias"]
    assert wrong(check_file(f"{tmp_path}/mine.py:Square", ["3x4"])) == ["x"]


# ---- PyTorch -----------------------------------------------------------------------------------------------

@needs("torch")
class TestTorch:
    def test_every_parameter_of_a_module_is_checked_and_the_module_stays(self):
        import torch

        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.ReLU(inplace=True), torch.nn.LayerNorm(6),
                                  torch.nn.Linear(6, 2))
        before = {name: x.clone() for name, x in net.state_dict().items()}
        report = minivit.gradcheck(net, torch.tensor(X, dtype=torch.float32))
        assert report.ok, report
        assert [row.tensor for row in report.rows] == ["input", "0.weight", "0.bias", "2.weight", "2.bias", "3.weight",
                                                       "3.bias"]
        assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())
        assert all(p.grad is None and p.dtype is torch.float32 for p in net.parameters())
        assert minivit.gradcheck(net, X).ok                           # arrays of NumPy will do

    @pytest.mark.parametrize("mistake", [True, False])
    def test_a_wrong_gradient_of_a_parameter_in_a_module_is_named(self, mistake):
        import torch

        swish = in_torch("beta" if mistake else "")[0]

        class Layer(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.linear, self.beta = torch.nn.Linear(5, 5), torch.nn.Parameter(torch.ones(5))

            def forward(self, x):
                return swish.apply(self.linear(x), self.beta)

        assert torch.autograd.gradcheck(Layer().double(), torch.tensor(X, requires_grad=True))   # it sees no parameters
        assert wrong(minivit.gradcheck(Layer(), torch.tensor(X))) == (["beta"] if mistake else [])

    def test_frozen_and_tied_parameters_and_buffers(self):
        import torch

        class Tied(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.out = torch.nn.Embedding(6, 4), torch.nn.Linear(4, 6)
                self.out.weight = self.embed.weight
                self.out.bias.requires_grad_(False)
                self.register_buffer("scale", torch.tensor(2.0))

            def forward(self, ids):
                return self.out(self.scale * torch.tanh(self.embed(ids)))

        report = minivit.gradcheck(Tied(), torch.tensor([1, 2, 2]))
        assert report.ok, report
        assert [(row.tensor, row.aliases) for row in report.rows] == [("embed.weight", ("out.weight",))]
        assert report.inventory == {"out.bias": "requires_grad=False", "scale": "buffer"}
        assert "not checked: out.bias (requires_grad=False)" in str(report)

    def test_batch_norm_and_dropout_in_training_mode(self):
        import torch

        norm = torch.nn.BatchNorm1d(5, momentum=0.5)
        state = torch.get_rng_state()
        report = minivit.gradcheck(torch.nn.Sequential(norm, torch.nn.Dropout(0.4)), torch.tensor(X))
        assert report.ok, report
        assert not norm.running_mean.any()
        assert torch.equal(torch.get_rng_state(), state)

    def test_state_that_changes_is_refused_with_one_line(self):
        import torch

        class Counts(torch.nn.Module):
            calls = 0

            def forward(self, x):
                self.calls += 1
                return x * self.calls

        with pytest.raises(ValueError, match=r"^the forward is random: .* reset what it changes$"):
            minivit.gradcheck(Counts(), torch.tensor(X))

    def test_a_generator_of_the_module_or_named_by_the_user(self):
        import torch

        class Noise(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.generator = np.random.default_rng(0)

            def forward(self, x):
                return x * torch.as_tensor(self.generator.standard_normal(5))

        assert minivit.gradcheck(Noise(), torch.tensor(X)).ok
        generator = torch.Generator().manual_seed(3)

        def noise(x):
            return x * torch.rand(5, generator=generator)

        assert minivit.gradcheck(noise, torch.tensor(X), rng=generator).ok
        with pytest.raises(ValueError, match="the forward is random"):
            minivit.gradcheck(noise, torch.tensor(X))

    def test_only_inputs_that_require_a_gradient_if_any_does(self):
        import torch

        a, b = torch.tensor(X, requires_grad=True), torch.tensor(X)
        report = minivit.gradcheck(torch.mul, a, b)
        assert [row.tensor for row in report.rows] == ["input 0"]
        assert "input 1 (requires_grad=False)" in str(report)
        assert len(minivit.gradcheck(lambda a, b: a * b, b, b).rows) == 2

    def test_a_detached_tensor_is_wrong_with_a_note_and_a_detached_result_is_listed(self):
        import torch

        report = minivit.gradcheck(lambda x, w: (x @ w.detach(), x.detach()), torch.tensor(X), torch.tensor(W))
        assert wrong(report) == ["w"]
        assert "note: the gradient of w is None, which counts as zero" in str(report)
        assert "not checked: result.1 (no gradient" in str(report)
        with pytest.raises(ValueError, match=r"^no gradient reaches the inputs: found result without one"):
            minivit.gradcheck(lambda x: x.detach() * 2, torch.tensor(X))

    def test_a_parameter_that_a_function_finds_elsewhere_is_listed(self):
        import torch

        scale = torch.ones(5, dtype=torch.float64, requires_grad=True)
        report = minivit.gradcheck(lambda x: x * scale, torch.tensor(X))
        assert report.ok
        assert "not seen: shape (5,); pass it as an input, or the module that holds it" in str(report)

    def test_what_changes_its_input_or_dy_is_refused(self):
        import torch

        class Square(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x

            @staticmethod
            def backward(ctx, dy):
                return dy.mul_(2 * ctx.saved_tensors[0])

        with pytest.raises(ValueError, match=r"^the backward changes dy: .* work on a copy$"):
            minivit.gradcheck(Square, torch.tensor(X))
        with pytest.raises(ValueError, match=r"^the forward changes x: .* ctx.mark_dirty$"):
            minivit.gradcheck(lambda x: (x.data.mul_(2), x * x)[1], torch.tensor(X))
        assert minivit.gradcheck(lambda x: x.mul_(2) * x, torch.tensor(X)).ok   # autograd follows this

    def test_complex_tensors(self):
        import torch

        z = torch.tensor(X[:2, :2] + 1j * X[1:, 1:3])
        assert minivit.gradcheck(lambda z: (z * z.conj() * z, z.abs()), z).ok

        class Conj(torch.autograd.Function):
            @staticmethod
            def forward(ctx, z):
                return z.conj().resolve_conj()

            @staticmethod
            def backward(ctx, dy):
                return dy

        assert wrong(minivit.gradcheck(Conj, z)) == ["z"]

    @pytest.mark.parametrize("layer", ["LSTM(5, 4)", "GRU(5, 4)", "Bilinear(5, 5, 2)", "PReLU()", "GELU()",
                                       "Softmax(dim=1)", "GroupNorm(1, 5)", "LayerNorm(5)",
                                       "utils.parametrizations.weight_norm(nn.Linear(5, 3))"])
    def test_layers_of_the_library_pass(self, layer):
        import torch
        from torch import nn

        module = eval(layer, vars(nn) | {"nn": nn})
        x = torch.tensor(np.tile(X, (2, 1, 1)) if "(5, 4)" in layer else X)
        report = minivit.gradcheck(module, *([x, x] if "Bilinear" in layer else [x]))
        assert report.ok, report
        assert report.worst < 1e-8

    @pytest.mark.parametrize("kind", ["sparse", "lazy", "number"])
    def test_what_cannot_be_checked_is_one_line(self, kind):
        import torch

        target, x, error = {
            "sparse": (torch.sin, torch.eye(3).to_sparse(), "wrong kind of tensor: found torch.sparse_coo, expected a"),
            "lazy": (torch.nn.LazyLinear(2), torch.tensor(X), "call it once before the check"),
            "number": (3, torch.tensor(X), "wrong target for torch: found int, expected a function")}[kind]
        with pytest.raises(TypeError, match=error):
            minivit.gradcheck(target, x)


# ---- float32 alone -----------------------------------------------------------------------------------------

def single_tanh(factor, inside=False):
    """A tanh that exists in float32 alone, as a kernel does: it refuses float64, or converts it."""
    import torch

    class Tanh(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if not inside and x.dtype is not torch.float32:
                raise TypeError("tanh: expected float32")
            y = torch.tanh(x.float())
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, dy):
            return factor * dy * (1 - ctx.saved_tensors[0] ** 2)

    return Tanh


@needs("torch")
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_code_in_float32_alone_is_checked_to_a_tolerance_from_its_noise(inside, scale):
    import torch

    x = torch.tensor(X, dtype=torch.float32)
    function = single_tanh(1.0, inside)
    report = minivit.gradcheck(lambda x: scale * function.apply(x), x)
    assert report.ok, report
    assert 1e-6 < report.tolerance <= 1e-2
    assert f"the tolerance is {report.tolerance:.0e}, by the measured noise of the forward" in str(report)
    why = "returns float32" if inside else "fails (tanh: expected float32)"
    assert f"computed in float32, because it {why} in float64" in str(report)
    function = single_tanh(1.05, inside)
    report = minivit.gradcheck(lambda x: scale * function.apply(x), x)
    assert wrong(report) == ["x"]
    assert "WRONG" in str(report)


@needs("torch")
def test_right_functions_in_float32_raise_no_false_alarm():
    import torch

    for seed in range(30):
        rng = np.random.default_rng(seed)
        x, w = (torch.tensor(rng.standard_normal(shape) * 10 ** rng.uniform(-2, 2), dtype=torch.float32)
                for shape in ((4, 6), (6, 3)))

        def function(x, w):
            return torch.softmax((x.float() @ w.float()) / (1 + w.float().abs().sum()), 1) + 0.1 * x.float().mean()

        report = minivit.gradcheck(function, x, w, seed=seed)
        assert report.ok, report


@needs("jax")
def test_jax_is_in_float64_whatever_the_setting_of_the_session():
    import jax
    import jax.numpy as jnp

    x = jnp.asarray(X, jnp.float32)
    report = minivit.gradcheck(jax.jit(lambda x: jnp.sin(x) * jnp.arange(5.0)), x)
    assert report.ok, report
    assert report.worst < 1e-9
    assert jnp.asarray(X).dtype == jnp.float32
    report = minivit.gradcheck(lambda x: jnp.tanh(x.astype(jnp.float32)), x)
    assert report.ok, report
    assert "computed in float32, because it returns float32 in float64" in str(report)


@needs("jax")
def test_jax_keys_jvp_rules_and_numpy_inputs():
    import jax
    import jax.numpy as jnp

    def noisy(key, x):
        return x * jax.random.normal(key, x.shape)

    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        assert [row.tensor for row in minivit.gradcheck(noisy, key, jnp.asarray(X)).rows] == ["x"]

    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvps(lambda t, y, x: 2 * x**2 * t)
    for x in (X, jnp.asarray(X)):
        report = minivit.gradcheck(cube, x)
        assert wrong(report) == ["x"]
        assert "the gradient is 0.666667 times what it should be" in str(report)
    assert minivit.gradcheck(lambda x: jnp.sin(x).sum(), X).ok        # known by its result
    stopped = minivit.gradcheck(lambda x, w: x @ jax.lax.stop_gradient(w), jnp.asarray(X), jnp.asarray(W))
    assert wrong(stopped) == ["w"]


@needs("jax")
def test_jax_complex_gradients_are_conjugated():
    import jax.numpy as jnp

    z = jnp.asarray(X[:2] + 1j * X[1:])
    assert minivit.gradcheck(lambda z: (z * jnp.conj(z) * z * (1 + 2j), jnp.abs(z)), z).ok


@pytest.mark.parametrize("make", IN[1:4:2])                           # autograd's arrays are those of NumPy
def test_arrays_that_a_function_finds_elsewhere_are_listed(make):
    _, array, layer = make()
    w = array(W)

    class Object:
        def __init__(self):
            self.w = w

        def __call__(self, x):
            return layer(x, self.w)

    for function in (lambda x: layer(x, w), Object(), Object().__call__, functools.partial(layer, w=w)):
        report = minivit.gradcheck(function, array(X))
        assert report.ok
        assert [row.tensor for row in report.rows] == ["x"]
        assert "not seen: shape (5, 4); pass it as an input" in str(report)
    assert "not seen" not in str(minivit.gradcheck(layer, array(X), w))


@needs("jax")
def test_what_a_jitted_function_finds_elsewhere_is_listed():
    import jax

    w, ids = jax.numpy.asarray(W), jax.numpy.arange(3)
    assert "not seen: shape (5, 4);" in str(minivit.gradcheck(jax.jit(lambda x: x[ids] @ w), jax.numpy.asarray(X)))


@needs("autograd")
def test_autograd_complex_gradients_are_conjugated():
    import autograd.numpy as anp

    assert minivit.gradcheck(lambda z: z * anp.conj(z) * z * (1 + 2j), X[:2] + 1j * X[1:]).ok


@needs("autograd")
def test_a_gradient_by_hand_counts_although_autograd_could_trace_the_function():
    import autograd.numpy as anp

    report = minivit.gradcheck(lambda x: (anp.sum(x**2), 3 * x), X)
    assert wrong(report) == ["x"]


@needs("mygrad")
def test_constant_tensors_of_mygrad_are_listed():
    import mygrad

    report = minivit.gradcheck(lambda x, w: mygrad.exp(x) * w, mygrad.tensor(X), mygrad.tensor(BETA, constant=True))
    assert [row.tensor for row in report.rows] == ["x"]
    assert "not checked: w (constant)" in str(report)
