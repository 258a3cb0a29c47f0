"""Passes of each type on a device without memory, and what they exchange with the host.

A program of its own, since torch can be given such a device once for each process. It needs no GPU:
tensors have a shape and a device alone (torch's FakeTensorMode). Each line that it prints has a
type and what its passes do: sums that are not the same in each run, numbers that go from the host
to the device or back, or values that the host waits for. A tensor that lies on the host although it
should not shows as an exchange, too.
"""

from __future__ import annotations

import sys
import types
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from caffecompat.layers._device_copies import DeviceCopies
from tests.layers.contract.drawn import drawn
from tests.layers.contract.prepared import bottoms_of, parameters_of, prepared
from tests.layers.examples import examples
from tests.layers.single import call
from tests.layers.strategies import Example

DEVICE = "privateuseone"
# Functions that bring values to the host.
READERS = (
    *("item", "tolist", "numpy", "cpu", "__array__"),
    *("__bool__", "__int__", "__float__", "__index__"),
)
# Operators that on a GPU add up in the order in which threads end.
UNREPEATABLE = (
    *("index_add", "scatter_add", "upsample_bilinear2d_backward", "grid_sampler_2d_backward"),
    *("max_pool3d_with_indices_backward", "avg_pool3d_backward", "replication_pad2d_backward"),
    *("reflection_pad2d_backward", "bincount", "histc", "put_.default"),
)
# Marks them in the program's lines.
ADDS = "adds: "
# How many examples of each type are tried.
EXAMPLES = 3


def add_device() -> None:
    module: Any = types.ModuleType(f"torch.{DEVICE}")
    module.is_available = module.is_initialized = lambda: True
    module.current_device, module.device_count = lambda: 0, lambda: 1
    module._is_in_bad_fork, module._lazy_init = lambda: False, lambda: None
    torch._register_device_module(DEVICE, module)
    accelerators: Any = torch._C._acc

    class Guard(accelerators.DeviceGuard):
        def type_(self) -> Any:
            return torch._C._autograd.DeviceType.PrivateUse1

    accelerators.register_python_privateuseone_device_guard(Guard())
    # Layers ask for it where an operation would not be repeatable on a GPU.
    is_on_it = lambda self: self.device.type == DEVICE  # noqa: E731
    torch.Tensor.is_cuda = property(is_on_it)  # type: ignore[assignment]
    # Of these only the first pass copies, and it is no part of a CUDA graph.
    DeviceCopies.on = _copied_before  # type: ignore[method-assign]


def _copied_before(self: DeviceCopies, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.empty(np.shape(self.values), device=device, dtype=dtype)


class Exchanges(TorchFunctionMode):
    """Collects calls that make tensors from numbers, or numbers from tensors."""

    def __init__(self, found: set[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        on_it = any(one == DEVICE for one in _devices((args, kwargs)))
        made = str(kwargs.get("device", "")).startswith(DEVICE)
        reads, makes = on_it and name in READERS, made and name in ("tensor", "as_tensor")
        if reads or makes or (on_it and name == "new_tensor"):
            self._found.add(name)
        return func(*args, **kwargs)


class Crossings(TorchDispatchMode):
    """Collects operators with tensors on both sides."""

    def __init__(self, found: set[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(func).removeprefix("aten.")
        if name.startswith(UNREPEATABLE):
            self._found.add(ADDS + name)
        if len({*_devices((args, kwargs)), *_to(kwargs)}) > 1:
            self._found.add(str(func))
        made = func(*args, **kwargs)
        if len({*_devices((args, kwargs)), *_devices(made)}) > 1:
            self._found.add(str(func))
        return made


def _devices(values: Any) -> Iterator[str]:
    return (value.device.type for value in tree_leaves(values) if isinstance(value, Tensor))


def _to(kwargs: dict[str, Any]) -> list[str]:
    device = kwargs.get("device")
    return [] if device is None else [torch.device(device).type]


def backward(tops: Sequence[Tensor]) -> None:
    """The backward pass; torch's own engine has no threads for the device."""
    roots = [top.grad_fn for top in tops if top.grad_fn is not None]
    waiting, seen, left = Counter[Any](), set[Any](), list[Any](roots)
    while left:
        node = left.pop()
        if node not in seen:
            seen.add(node)
            following = [one for one, _ in node.next_functions if one is not None]
            waiting.update(following)
            left += following
    given: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    for top in tops:
        if top.grad_fn is not None:
            given[top.grad_fn][top.output_nr] = torch.ones_like(top)
    ready = [node for node in seen if not waiting[node]]
    while ready:
        node = ready.pop()
        gradients = _gradients(node, given.pop(node, {}))
        for (following, place), gradient in zip(node.next_functions, gradients, strict=False):
            if following is None:
                continue
            if gradient is not None:
                gradient = gradient.sum_to_size(_shape(following, place, gradient))
                before = given[following].get(place)
                given[following][place] = gradient if before is None else before + gradient
            waiting[following] -= 1
            if not waiting[following]:
                ready.append(following)


def _gradients(node: Any, given: dict[int, Tensor]) -> tuple[Tensor | None, ...]:
    if not given or node.name().endswith("AccumulateGrad"):
        return (None,) * len(node.next_functions)
    count = max(max(given) + 1, len(getattr(node, "_input_metadata", ())))
    # The functions of the package are nodes that cannot be called.
    run = node if callable(node) else node.apply
    made = run(*[given.get(place) for place in range(count)])
    return made if isinstance(made, tuple) else (made,)


def _shape(node: Any, place: int, gradient: Tensor) -> torch.Size:
    shapes = getattr(node, "_input_metadata", None)
    return gradient.shape if shapes is None else shapes[place].shape


def passes(type_name: str, example: Example) -> set[str]:
    """What a forward and a backward pass exchange with the host."""
    found: set[str] = set()
    layer = prepared(type_name, example)
    values = bottoms_of(example, torch.float32)
    parameters = parameters_of(layer, torch.float32)
    with FakeTensorMode(), Exchanges(found), Crossings(found):
        moved = [_empty_like(value) for value in (*values, *parameters)]
        bottoms, own = moved[: len(values)], moved[len(values) :]
        if getattr(layer, "noise", None) is not None:
            layer.noise.position = torch.zeros((), dtype=torch.int64, device=DEVICE)
        for i, bottom in enumerate(bottoms):
            bottom.requires_grad_(layer.differentiable[min(i, len(layer.differentiable) - 1)])
        for spec, parameter in zip(layer.specs, own, strict=True):
            parameter.requires_grad_(spec.learned)
        given = [one if one.requires_grad else one.clone() for one in own]
        try:
            tops = call(layer, bottoms, given)
            backward([top for top in tops if top.requires_grad])
        except (NotImplementedError, RuntimeError) as error:
            # Copies to such a device, and shapes that depend on values, end the pass.
            exchanged = any(not what.startswith(ADDS) for what in found)
            if not exchanged and "DynamicOutputShape" not in type(error).__name__:
                raise
            found.add(type(error).__name__)
            return found
        found.update(f"a top on {top.device}" for top in tops if top.device.type != DEVICE)
    return found


def _empty_like(value: Tensor) -> Tensor:
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=DEVICE)


def main() -> None:
    add_device()
    for type_name in sorted(examples):
        for example in drawn(type_name, EXAMPLES, derandomize=True):
            for what in sorted(passes(type_name, example)):
                sys.stdout.write(f"{type_name}\t{what}\n")


if __name__ == "__main__":
    main()
