"""The memory of blobs: tensors that layers use, and numpy views of them that stay valid."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch

from caffecompat.layers import Shape
from caffecompat.pycaffe.execution.arrays import BlobArray, named_array


def has_own_memory(device: torch.device) -> bool:
    """Whether numpy cannot read the memory of the device."""
    return device.type != "cpu"


class Views:
    """The blobs of a net of which a numpy view exists.

    A view costs nothing until it is asked for. After a pass, :meth:`show` copies new values into
    the views that still exist, since passes put them into new tensors. On a GPU the views are
    copies on the host, and :meth:`send` brings what was written into them to the device.

    Args:
        device: of the net.

    Attributes:
        diffs_used: whether a script has used the gradients of parameters.
        before_diffs: called before each use of them.
    """

    def __init__(self, device: torch.device) -> None:
        self.diffs_used = False
        self.before_diffs: Callable[[], None] | None = None
        self.on_host_only = has_own_memory(device)
        # Weakly, as each memory refers to the views: a dropped net is gone at once.
        self._viewed: weakref.WeakSet[Memory] = weakref.WeakSet()
        # A script may write into a view and drop it; it is kept until it is sent.
        self._kept: dict[int, BlobArray] = {}
        self._linked: list[Views] = []

    def add(self, memory: Memory, view: BlobArray) -> None:
        self._viewed.add(memory)
        if self.on_host_only:
            self._kept[id(view)] = view

    def lie_in(self, tensor: torch.Tensor) -> bool:
        """Whether a view of any blob lies in the memory of ``tensor``.

        A layer that changes nothing hands on its bottom, so that it may be that of its top.
        """
        if not self._viewed:
            return False
        address = tensor.untyped_storage().data_ptr()
        return any(memory.is_viewed_in(address) for memory in self._viewed)

    def link(self, other: Views) -> None:
        """The net shares parameters with that of ``other``, and sees what is written there."""
        if self.on_host_only and other is not self and other not in self._linked:
            self._linked.append(other)
            other._linked.append(self)

    def use_diffs(self) -> None:
        """Says that a script uses the gradients of parameters now."""
        self.diffs_used = True
        if self.before_diffs is not None:
            self.before_diffs()

    def show(self) -> None:
        """Brings all existing views up to date."""
        if self._viewed:
            for memory in [memory for memory in self._viewed if not memory.show()]:
                self._viewed.discard(memory)

    def send(self) -> None:
        """Copies what scripts have written into views to the device."""
        if self.on_host_only:
            self._send()
            for other in self._linked:
                other._send()

    def _send(self) -> None:
        for memory in self._viewed:
            memory.send()
        self._kept.clear()


class Memory:
    """One array of a blob: its ``data`` or its ``diff``.

    As in Caffe it keeps its memory while its shapes fit into it, and so do views of all shapes.

    Args:
        name: for messages.
        shape: the initial shape.
        views: those of the net.
        device: of the net.
        fill: the initial value of all elements.
    """

    def __init__(
        self, name: str, shape: Shape, views: Views, device: torch.device, fill: float = 0.0
    ) -> None:
        self.name = name
        self._shape = tuple(shape)
        self._views = views
        self._device = device
        self._fill = fill
        self._tensor: torch.Tensor | None = None
        # All of the memory, one axis, and the tensor that lies at its beginning; None where the
        # values lie in memory of a layer. On the CPU, views lie in it.
        self._whole: torch.Tensor | None = None
        self._placed: torch.Tensor | None = None
        # All of the memory on the host, of which views are parts.
        self._view: weakref.ref[BlobArray] | None = None
        # On a GPU, the values that the view had when it was shown or sent, and whether the device
        # has newer ones.
        self._shown: np.ndarray | None = None
        self._behind = False

    @property
    def shape(self) -> Shape:
        return self._shape if self._tensor is None else tuple(self._tensor.shape)

    def fits(self, other: Memory) -> bool:
        """Whether both have one shape."""
        own, others = self._tensor, other._tensor
        if own is None or others is None:
            return self.shape == other.shape
        return own.shape == others.shape

    def tensor(self) -> torch.Tensor:
        """The values on the net's device."""
        if self._tensor is None:
            self._tensor = torch.full(self._shape, self._fill, device=self._device)
            self._place(self._tensor)
        return self._tensor

    def kept(self) -> torch.Tensor:
        """The values as a tensor that stays as it is when a view is brought up to date."""
        tensor = self.tensor()
        return tensor.clone() if self._views.lie_in(tensor) else tensor

    def is_viewed_in(self, address: int) -> bool:
        """Whether a view that still exists lies in the memory at ``address``."""
        placed = self._placed
        if placed is None or self._array() is None:
            return False
        return placed.untyped_storage().data_ptr() == address

    def _place(self, tensor: torch.Tensor) -> None:
        self._whole, self._placed = tensor.view(-1), tensor

    def put(self, tensor: torch.Tensor) -> None:
        """Replaces the values, by those of a tensor without gradient graph.

        It may be a parameter that a layer hands on as its top.
        """
        self._tensor = tensor
        self._behind = True
        if self._view is None:
            self._whole = self._placed = None

    def resize(self, shape: Sequence[int]) -> None:
        """Changes the shape. The first values stay while it fits into the memory."""
        wanted = tuple(int(extent) for extent in shape)
        if wanted == self.shape:
            return
        self.send()
        view = self._array() if self.show() else None
        old, count = self._tensor, prod(wanted)
        if self._whole is not None and old is self._placed and count <= self._whole.numel():
            self._tensor = self._placed = self._whole[:count].view(wanted)
        elif old is not None and count <= old.numel():
            self._tensor = old.contiguous().view(-1)[:count].view(wanted)
        elif view is not None and self._views.on_host_only and count <= view.size:
            self._tensor = torch.from_numpy(_part(view, wanted).copy()).to(self._device)
        else:
            self._shape, self._tensor = wanted, None

    def array(self) -> BlobArray:
        """A writable view of the values; it remains one while the shapes fit into the memory."""
        view = self._array() if self.show() else None
        if view is None:
            view = self._new_view()
            self._view = weakref.ref(view)
        self._views.add(self, view)
        return named_array(_part(view, self.shape), self.name)

    def _array(self) -> BlobArray | None:
        return None if self._view is None else self._view()

    def _new_view(self) -> BlobArray:
        tensor = self.tensor()
        if self._views.on_host_only:
            view = named_array(_on_host(tensor).reshape(-1), self.name)
            self._shown, self._behind = np.array(view), False
            return view
        if self._whole is None or tensor is not self._placed:
            if not (tensor.is_contiguous() and tensor.dtype == torch.float32):
                tensor = tensor.float().contiguous()
            self._tensor = tensor
            self._place(tensor)
        assert self._whole is not None
        return named_array(self._whole.detach().numpy(), self.name)

    def show(self) -> bool:
        """Copies the values into the view, if it still exists and fits; returns whether it does."""
        view, count = self._array(), prod(self.shape)
        if view is None or view.size < count:
            self._view = self._shown = None
            if self._tensor is not self._placed:
                self._whole = self._placed = None
            return False
        if self._views.on_host_only:
            if self._behind and not self._is_written(view):
                np.copyto(_part(view, self.shape), _on_host(self.tensor()))
                self._shown, self._behind = np.array(view), False
        elif self._placed is not self._tensor:
            assert self._whole is not None
            self._placed = self._whole[:count].view(self.shape)
            self._place_values(self.tensor())
        return True

    def _place_values(self, values: torch.Tensor) -> None:
        """Copies ``values`` into the memory of the views, if they do not lie there already.

        A layer that changes nothing hands its bottom on. ``.data`` hides the copy from autograd:
        a graph that has used the memory stays usable, as Caffe's backward pass uses what stands
        there.
        """
        assert self._placed is not None
        there = self._placed
        if values.data_ptr() != there.data_ptr() or values.stride() != there.stride():
            one = values.untyped_storage().data_ptr() == there.untyped_storage().data_ptr()
            # torch refuses a copy between tensors that overlap.
            there.data.copy_(values.clone() if one else values)
        self._tensor = there

    def _is_written(self, view: BlobArray) -> bool:
        return self._shown is not None and not np.array_equal(view, self._shown)

    def send(self) -> None:
        """Copies the view to the device, if a script has written into it."""
        view = self._array()
        if view is not None and view.size >= prod(self.shape) and self._is_written(view):
            # ``.data`` hides the write from autograd: graphs of the last pass stay usable.
            values = torch.from_numpy(np.asarray(_part(view, self.shape)))
            self.tensor().data.copy_(values)
            self._shown, self._behind = np.array(view), False


def _part(whole: BlobArray, shape: Shape) -> BlobArray:
    """The beginning of an array of one axis in a shape, the same memory."""
    return whole[: prod(shape)].reshape(shape)  # type: ignore[return-value]


def _on_host(tensor: torch.Tensor) -> np.ndarray:
    """The values as an array of its own memory."""
    return np.array(tensor.detach().float().cpu().numpy())


class ParameterMemory(Memory):
    """``data`` or ``diff`` of a parameter, whose tensors the layer's module holds.

    Args:
        find: gives the tensor, in the shape that the layer uses.
        is_diff: it is the gradient.
    """

    def __init__(
        self,
        name: str,
        shape: Shape,
        views: Views,
        device: torch.device,
        find: Callable[[], torch.Tensor],
        is_diff: bool = False,
    ) -> None:
        super().__init__(name, shape, views, device)
        self._find = find
        self._is_diff = is_diff

    @property
    def shape(self) -> Shape:
        return self._shape

    def tensor(self) -> torch.Tensor:
        return self._find().view(self._shape)

    def put(self, tensor: torch.Tensor) -> None:
        self.tensor().copy_(tensor)

    def resize(self, shape: Sequence[int]) -> None:
        """Changes the shape that scripts and weight files see; the layer keeps its own."""
        if prod(shape) != prod(self._shape):
            raise ValueError(
                f"{self.name}: a parameter keeps its number of elements, its shape is "
                f"{self.shape}; for another number, change the layer's definition and build the "
                "net again"
            )
        self._shape = tuple(int(extent) for extent in shape)

    def array(self) -> BlobArray:
        if self._is_diff:
            self._views.use_diffs()
        if self._views.on_host_only:
            # Another net may share the parameter, and solvers change it.
            self._views.send()
            return super().array()
        # A parameter keeps its memory.
        return named_array(self.tensor().numpy(), self.name)

    def show(self) -> bool:
        self._behind = True
        return super().show()


def parameter_data(parameter: torch.Tensor, shape: Shape) -> torch.Tensor:
    """The values of a parameter in the shape of a layer that shares it."""
    return parameter.detach().view(shape)


def parameter_diff(parameter: torch.Tensor, shape: Shape) -> torch.Tensor:
    """The gradient of a parameter, made of zeros if there is none yet."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter, requires_grad=False)
    return parameter.grad.view(shape)
