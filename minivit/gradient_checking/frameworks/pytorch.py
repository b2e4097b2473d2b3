"""PyTorch: functions of tensors, modules with their parameters, and custom `torch.autograd.Function`s.

A module is copied. Its parameters get random values. Those with requires_grad=False and the buffers keep theirs. In
training mode a module may change its buffers, as batch norm does, and draw random numbers, as dropout does. So before
each call the buffers get their first values again, and so does the state of PyTorch's random generators.

If one of several inputs requires a gradient, those that do are checked; if none does, all floating inputs are.

PyTorch has the same convention for complex tensors as the checker. Gradient mode is on in all calls: some modules take
another path without it.
"""

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..parameters import is_generator
from ..randomness import SameRandomNumbers
from ..trees import item, leaves
from .framework import Framework, Program


class PyTorch(Framework):
    """Tensors of PyTorch."""

    module = "torch"

    def is_array(self, x: Any) -> bool:
        """Return whether x is a tensor."""
        return self.loaded is not None and isinstance(x, self.loaded.Tensor)

    def to_numpy(self, x: Any) -> np.ndarray:
        """Return a copy; half precision becomes float32, because NumPy has no bfloat16."""
        torch = self.loaded
        if x.layout is not torch.strided or x.is_quantized or x.is_nested:
            raise TypeError(f"wrong kind of tensor: found {x.layout}, expected a dense tensor, pass one, and convert "
                            "it in the function")
        x = x.detach().cpu().resolve_conj().resolve_neg()
        if x.is_floating_point() and x.dtype not in (torch.float64, torch.float32):
            x = x.float()
        return np.array(x.numpy())

    def from_numpy(self, x: np.ndarray, like: Any, dtype: Any) -> Any:
        """Return a tensor on the device of `like`."""
        device = like.device if self.is_array(like) else None
        return self.loaded.from_numpy(np.array(x)).to(device, self._dtype(x, dtype))

    def variable(self, x: np.ndarray, like: Any, dtype: Any) -> Any:
        """Return a tensor that requires a gradient."""
        return self.from_numpy(x, like, dtype).requires_grad_()

    def _dtype(self, x, dtype):
        """Return the dtype of PyTorch for an array, in this precision."""
        torch = self.loaded
        if dtype is None:
            return None
        single = dtype is np.float32
        if x.dtype.kind == "c":
            return torch.complex64 if single else torch.complex128
        return torch.float32 if single else torch.float64

    def frozen(self, arrays: Mapping[str, Any]) -> dict[str, str]:
        """Return the inputs that require no gradient beside others that do."""
        required = [name for name, x in arrays.items() if self.is_array(x) and x.requires_grad]
        return dict.fromkeys((name for name in arrays if required and name not in required), "requires_grad=False")

    def is_differentiable(self, y: Any) -> bool:
        """Return whether an array of the result has a gradient."""
        return bool(y.requires_grad)

    def owns(self, target: Any) -> bool:
        """Return whether the target is a module, a method of one, or a `torch.autograd.Function`."""
        return self._is_function(target) or self._module_of(target) is not None

    def owns_objects_of(self, cls: type) -> bool:
        """Return whether a class is one of modules."""
        return issubclass(cls, self.loaded.nn.Module)

    def _is_function(self, target):
        """Return whether the target is a `torch.autograd.Function`, or its `apply`."""
        target = target if isinstance(target, type) else getattr(target, "__self__", None)
        return isinstance(target, type) and issubclass(target, self.loaded.autograd.Function)

    def _module_of(self, target):
        """Return the module that the target is, or whose method it is; None if there is none."""
        return next((x for x in (target, getattr(target, "__self__", None)) if isinstance(x, self.loaded.nn.Module)),
                    None)

    def program(self, target: Any, dtype: Any) -> Program:
        """Return the program: for a module, of a copy in this dtype."""
        if self._is_function(target):
            cls: Any = target if isinstance(target, type) else target.__self__
            return Program(cls.apply, _signature(cls, self.loaded.autograd.Function))
        module = self._module_of(target)
        return Program(target) if module is None else ModuleProgram(self, module, target, dtype)

    def bind(self, program: Program, name: str, x: np.ndarray, dtype: Any) -> Any:
        """Return the parameter of the copied module with the values of x."""
        parameter = program.parameters[name]
        parameter.data.copy_(self.loaded.from_numpy(np.array(x)))
        return parameter

    @contextlib.contextmanager
    def calling(self, dtype: Any) -> Iterator[None]:
        """Draw the same random numbers in each call, with gradients on, on one thread."""
        torch = self.loaded
        generators = [torch.default_generator]
        if torch.cuda.is_initialized():
            generators += torch.cuda.default_generators
        threads = torch.get_num_threads()
        torch.set_num_threads(1)                                      # small tensors are faster so
        try:
            with SameRandomNumbers(generators), torch.enable_grad():  # the state is as before after each call
                yield
        finally:
            torch.set_num_threads(threads)

    def passed(self, variable: Any) -> Any:
        """Return a copy of an input, and a parameter itself."""
        return variable if isinstance(variable, self.loaded.nn.Parameter) else variable.clone()

    def vjp(self, function: Callable, names: Sequence[str], arrays: Sequence, dy: Mapping[tuple, Any]) -> list:
        """Return the gradients by torch.autograd.grad; refuse a function that changes inputs behind its back."""
        passed = list(map(self.passed, arrays))
        made_by = [x.grad_fn for x in passed]
        y = function(passed)
        changed = [name for name, old, new, made in zip(names, arrays, passed, made_by, strict=True)
                   if new.grad_fn is made and not self.loaded.equal(old, new)]
        if changed:
            raise ValueError(f"the forward changes {', '.join(changed)}: found other values after the call, expected "
                             "the same, work on a copy, or say so by ctx.mark_dirty")
        outputs = [item(y, keys) for keys in dy]
        upstream = [g.detach() for g in dy.values()]
        given = [g.clone() for g in upstream]
        found = self.loaded.autograd.grad(outputs, arrays, upstream, allow_unused=True)
        if not all(map(self.loaded.equal, upstream, given)):
            raise ValueError("the backward changes dy: found other values after the call, expected the same, work on "
                             "a copy")
        return list(found)

    def unseen(self, function: Any, y: Any, known: Sequence) -> list:
        """Return the tensors that a function finds elsewhere: the ends of the graph of y that are not known."""
        nodes = [leaf.grad_fn for _, leaf in leaves(y) if self.is_array(leaf) and leaf.grad_fn is not None]
        seen, found = set(), []
        while nodes:
            node = nodes.pop()
            if node not in seen:
                seen.add(node)
                nodes += [other for other, _ in node.next_functions if other is not None]
                variable = getattr(node, "variable", None)
                if variable is not None and not any(variable is x for x in known):
                    found.append(variable)
        return found


class ModuleProgram(Program):
    """A copy of a module, which starts each call with the same buffers."""

    def __init__(self, framework: PyTorch, module: Any, target: Any, dtype: Any) -> None:
        torch = framework.loaded
        if any(map(torch.nn.parameter.is_lazy, module.parameters())):
            raise TypeError("the module has parameters without a shape: found a lazy module, expected parameters, "
                            "call it once before the check")
        try:
            self.module = copy.deepcopy(module)
        except Exception as error:
            raise TypeError(f"{type(module).__name__} cannot be copied: found {error}, expected a module that "
                            "copy.deepcopy accepts, remove the part or define __deepcopy__") from error
        precisions = (torch.float64, torch.complex128) if dtype is np.float64 else (torch.float32, torch.complex64)
        self.module._apply(lambda x: x.to(precisions[x.is_complex()]) if x.is_floating_point() or x.is_complex() else x)
        super().__init__(self.module if target is module else getattr(self.module, target.__name__),
                         self.module.forward if target is module else target)
        self._find_parameters()
        self.buffers = [(owner, name, buffer, buffer.clone()) for owner in self.module.modules()
                        for name, buffer in owner._buffers.items() if buffer is not None]
        self.generators = SameRandomNumbers(value for owner in self.module.modules() for value in vars(owner).values()
                                            if is_generator(value))

    def _find_parameters(self):
        """Set the parameters, their aliases, and what is not checked."""
        names: dict[int, list[str]] = {}
        for name, p in self.module.named_parameters(remove_duplicate=False):
            names.setdefault(id(p), []).append(name)
        for p in self.module.parameters():
            first, *others = names[id(p)]
            if p.requires_grad:
                self.parameters[first] = p
                self.aliases |= {first: tuple(others)} if others else {}
            else:
                self.inventory[first] = "requires_grad=False"
        self.inventory |= {name: "buffer" for name, _ in self.module.named_buffers()}

    def call(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the module with its first buffers, and its own random generators in their first state."""
        for owner, name, buffer, value in self.buffers:
            owner._buffers[name] = buffer.detach_().copy_(value)
        self.generators.reset()
        return self.function(*arguments, **keywords)


def _signature(cls, base):
    """Return a function with the signature of the forward of a `torch.autograd.Function`, without ctx."""
    def forward(*arguments):
        raise NotImplementedError

    found = inspect.signature(cls.forward)
    takes_context = cls.setup_context is base.setup_context
    names = list(found.parameters.values())[takes_context:]
    forward.__signature__ = found.replace(parameters=names)           # type: ignore[attr-defined]
    return forward
