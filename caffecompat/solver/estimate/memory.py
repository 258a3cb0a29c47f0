"""The memory of a training, measured from the ``meta`` tensors that autograd saves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from caffecompat.errors import CaffeError
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.shapes.operator_shapes import OperatorShapes

_BYTES = 4
# The operations of our layers that torch.autocast runs in 16 bits, and those in fp32.
_IN_HALF = {"conv1d", "conv2d", "conv3d", "linear", "einsum", "matmul"}
_IN_HALF |= {f"conv_transpose{axes}d" for axes in (1, 2, 3)}
_IN_FLOAT = {"pow", "__pow__", "exp", "log", "softmax", "log_softmax", "softplus", "sum", "cumsum"}
_IN_FLOAT |= {"binary_cross_entropy_with_logits"}


@dataclass(frozen=True)
class Footprint:
    """Bytes that a training needs on its device.

    Attributes:
        parameters, gradients, history: of all learnable parameters.
        peak_points: the need of a pass at each layer, in two parts: values and gradients of blobs,
            which grow with the batch, and new gradients of parameters, which do not.
        scratch: temporary arrays of the update.
    """

    parameters: int
    gradients: int
    history: int
    peak_points: tuple[tuple[int, int], ...]
    scratch: int

    @property
    def activations(self) -> int:
        """The largest need of a pass."""
        return max((blobs + own for blobs, own in self.peak_points), default=0)

    def divided(self, parts: int) -> Footprint:
        """The need with a batch that is ``parts`` times smaller."""
        return replace(
            self, peak_points=tuple((blobs // parts, own) for blobs, own in self.peak_points)
        )

    @property
    def fixed(self) -> int:
        """The part that does not depend on the batch."""
        return self.parameters + self.gradients + self.history

    @property
    def total(self) -> int:
        return self.fixed + max(self.activations, self.scratch)


def footprint(
    net: Net, history_slots: int, scratch: bool, half: torch.dtype | None = None
) -> Footprint:
    """The memory of a training of ``net``, which may be built for its shapes only.

    Args:
        history_slots: history arrays per parameter.
        scratch: whether the update rule makes a temporary array per parameter.
        half: the 16-bit type of autocast; None without autocast.
    """
    learnable = net.learnable
    sizes = [_BYTES * entry.tensor.numel() for entry in learnable]
    learned = [size for size, e in zip(sizes, learnable, strict=True) if e.lr_mult != 0]
    return Footprint(
        sum(sizes),
        sum(learned),
        history_slots * sum(sizes),
        tuple(_peak_points(net, half)),
        sum(sizes) if scratch else 0,
    )


def _peak_points(net: Net, half: torch.dtype | None) -> Iterator[tuple[int, int]]:
    """Bytes in use while the backward pass is at each layer; a forward pass needs no more."""
    try:
        memory = _saved_for_backward(net, half) if _runs_without_traces(net) else None
    except (CaffeError, RuntimeError, NotImplementedError, TypeError):
        # Layers whose shapes depend on values cannot run on meta tensors.
        memory = None
    if memory is None:
        # Then the estimate is every blob and its gradient.
        yield 2 * sum(_size(shape) for built in net.layers for shape in built.shapes), 0
        return
    for i, built in enumerate(net.layers):
        alive = sum(size for size, first in memory.saved.values() if first <= i)
        own = sum(_BYTES * blob.numel() for blob in built.module.blobs()) if built.module else 0
        yield alive + memory.blobs.get(i, 0), own + memory.copies


def _runs_without_traces(net: Net) -> bool:
    """Whether a pass more changes nothing: a Python layer without bottoms would give a batch."""
    return all(built.layer is None or built.layer.can_be_restored for built in net.layers)


@dataclass
class _PassMemory:
    """The memory of a pass.

    Attributes:
        saved: bytes of each storage that autograd saves, and the first layer that saves it.
        blobs: bytes of the bottoms and tops of each layer.
        copies: bytes of the parameters that autocast has copied.
        references: all saved tensors.
        layer: index of the layer that runs.
    """

    saved: dict[int, tuple[int, int]] = field(default_factory=dict)
    blobs: dict[int, int] = field(default_factory=dict)
    copies: int = 0
    references: list[torch.Tensor] = field(default_factory=list)
    layer: int = 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        self.saved.setdefault(storage._cdata, (storage.nbytes(), self.layer))
        # While the tensor exists, no other storage gets the same address.
        self.references.append(tensor)
        return tensor


class _Autocast(TorchFunctionMode):
    """Casts as torch.autocast does, which does not support ``meta`` tensors; counts the copies."""

    def __init__(self, half: torch.dtype) -> None:
        super().__init__()
        self._half = half
        self.copies: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        wanted = self._half if name in _IN_HALF else torch.float32 if name in _IN_FLOAT else None
        if wanted is not None:
            args, kwargs = tree_map_only(
                torch.Tensor, lambda t: self._cast(t, wanted), (tuple(args), kwargs or {})
            )
        return func(*args, **(kwargs or {}))

    def _cast(self, tensor: torch.Tensor, wanted: torch.dtype) -> torch.Tensor:
        if tensor.dtype == wanted or not tensor.is_floating_point():
            return tensor
        if not tensor.is_leaf or not tensor.requires_grad:
            return tensor.to(wanted)
        return self.copies.setdefault(id(tensor), tensor.to(wanted))


def _saved_for_backward(net: Net, half: torch.dtype | None) -> _PassMemory:
    memory = _PassMemory()
    autocast = None if half is None else _Autocast(half)
    program = net.program()
    feeds = [torch.empty(net.shape_of(top), device="meta") for top in program.feeds]
    hooks = torch.autograd.graph.saved_tensors_hooks(memory.pack, lambda tensor: tensor)
    with (
        _record_layers(net.layers, memory),
        _gradients_enabled(net),
        hooks,
        autocast or nullcontext(),
        OperatorShapes(),
    ):
        result = program(feeds)
    parameters = {blob.untyped_storage()._cdata for blob in [*net.parameters(), *net.buffers()]}
    del result
    if autocast is not None:
        parameters |= {copy.untyped_storage()._cdata for copy in autocast.copies.values()}
        memory.copies = sum(copy.untyped_storage().nbytes() for copy in autocast.copies.values())
    memory.saved = {key: entry for key, entry in memory.saved.items() if key not in parameters}
    return memory


@contextmanager
def _record_layers(layers: list[BuiltLayer], memory: _PassMemory) -> Iterator[None]:
    handles = []
    for i, built in enumerate(layers):
        if built.module is not None:

            def enter(module: object, arguments: object, i: int = i) -> None:
                memory.layer = i

            def leave(module: object, bottoms: Any, tops: Any, i: int = i) -> None:
                blobs = tree_leaves((bottoms, tops))
                memory.blobs[i] = sum(b.numel() * b.element_size() for b in blobs)

            handles.append(built.module.register_forward_pre_hook(enter))
            handles.append(built.module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _gradients_enabled(net: Net) -> Iterator[None]:
    """Context in which the learnable parameters of a shapes-only net require gradients."""
    changed = [
        entry.tensor
        for entry in net.learnable
        if entry.lr_mult != 0 and not entry.tensor.requires_grad
    ]
    for tensor in changed:
        tensor.requires_grad_(True)
    try:
        yield
    finally:
        for tensor in changed:
            tensor.requires_grad_(False)


def _size(shape: tuple[int, ...]) -> int:
    return _BYTES * prod(shape)
