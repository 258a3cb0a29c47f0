"""Tensors that numpy reads from and writes to, as Caffe's users do with ``blob.data``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from caffecompat.errors import NetError
from caffecompat.layers._base import format_shape

_NUMPY_ONLY = frozenset(dir(np.ndarray)) - frozenset(dir(torch.Tensor))


class BlobData(torch.Tensor):
    """The values of a blob: a tensor outside any gradient graph that shares the blob's memory.

    ``data[...] = array`` writes numpy arrays, tensors and nested lists into the blob, on a GPU too
    and whatever their number type. ``np.asarray(data)`` is an array; on a CPU it shares the
    memory. What torch computes from it is an ordinary tensor.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    # Called before the first value is written, where somebody wants to know.
    before_writing: Callable[[], None] | None = None

    def __getitem__(self, index: Any) -> BlobData:
        part = super().__getitem__(index).as_subclass(BlobData)
        part.before_writing = self.before_writing
        return part

    def __setitem__(self, index: Any, value: Any) -> None:
        """Writes ``value``, which must have the shape of the place or extend to it.

        Raises:
            NetError: it is no array of numbers, or of another shape.
        """
        given = self._as_mine(value)
        if self.before_writing is not None:
            self.before_writing()
        with torch.no_grad():
            place = super().__getitem__(index)
            try:
                torch.broadcast_to(given, place.shape)
            except RuntimeError as error:
                raise NetError(
                    f"values of shape {format_shape(given.shape)} cannot be written where "
                    f"{format_shape(place.shape)} are expected; reshape the blob or the values"
                ) from error
            super().__setitem__(index, given)

    @property
    def flat(self) -> BlobData:
        """All values along one axis; ``data.flat = array`` writes them whatever array's shape."""
        flat = self.reshape(-1).as_subclass(BlobData)
        flat.before_writing = self.before_writing
        return flat

    @flat.setter
    def flat(self, value: Any) -> None:
        given = self._as_mine(value)
        if given.numel() != self.numel():
            raise NetError(
                f"{given.numel():,} values cannot be written where {self.numel():,} "
                f"({format_shape(self.shape)}) are expected"
            )
        self[...] = given.reshape(self.shape)

    def detach(self) -> BlobData:
        """The same values; they have no gradient graph."""
        return super().detach().as_subclass(BlobData)

    def _as_mine(self, value: Any) -> torch.Tensor:
        if not isinstance(value, torch.Tensor):
            value = torch.from_numpy(plain_array(value, "what was to be written into a blob"))
        return value.detach().to(self.device, self.dtype)

    def __iadd__(self, other: Any) -> BlobData:  # type: ignore[misc]
        return self._written(to_plain(self) + self._as_mine(other))

    def __isub__(self, other: Any) -> BlobData:  # type: ignore[misc]
        return self._written(to_plain(self) - self._as_mine(other))

    def __imul__(self, other: Any) -> BlobData:  # type: ignore[misc]
        return self._written(to_plain(self) * self._as_mine(other))

    def __itruediv__(self, other: Any) -> BlobData:  # type: ignore[misc]
        return self._written(to_plain(self) / self._as_mine(other))

    def _written(self, values: torch.Tensor) -> BlobData:
        self[...] = values
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return _array(self, dtype, copy)

    def __array_wrap__(self, array: np.ndarray, *_: Any) -> np.ndarray:
        """What numpy computes from blob data stays an array."""
        return array

    def __getattr__(self, name: str) -> Any:
        if name in _NUMPY_ONLY:
            raise AttributeError(
                f"the data of a blob is a torch tensor and has no {name!r}; convert it, "
                f"np.asarray(data), or copy it, np.array(data)"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.as_subclass(torch.Tensor).__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> BlobData:
        return self.clone().as_subclass(BlobData)

    def __repr__(self) -> str:  # type: ignore[override]
        return repr(self.as_subclass(torch.Tensor))


class BlobParameter(nn.Parameter):
    """A learned blob: torch's parameter, with a ``data`` and a ``diff`` that take numpy arrays."""

    @property
    def data(self) -> BlobData:
        return torch.Tensor.detach(self).as_subclass(BlobData)

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        nn.Parameter.data.__set__(self, value)  # type: ignore[attr-defined]

    @property
    def diff(self) -> BlobData:  # type: ignore[override]
        """The gradient, what torch calls ``grad``; where there is none, zeros to write into."""
        if self.grad is not None:
            return self.grad.as_subclass(BlobData)
        zeros = torch.zeros_like(self, requires_grad=False)

        def keep() -> None:
            self.grad = zeros

        return told_before(zeros, keep)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return _array(self, dtype, copy)

    def __repr__(self) -> str:  # type: ignore[override]
        return repr(nn.Parameter(to_plain(self), self.requires_grad))


class BlobStatistic(BlobData):
    """A blob that is not learned, such as BatchNorm's means; its ``diff`` is always zero."""

    @property
    def data(self) -> BlobData:
        return self.as_subclass(BlobData)

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]

    @property
    def diff(self) -> BlobData:  # type: ignore[override]
        return torch.zeros_like(self).as_subclass(BlobData)


def with_data(parameter: torch.Tensor) -> BlobParameter | BlobStatistic:
    """A layer's parameter with Caffe's ``data`` and ``diff``; a learned one stays the same object.

    Only parameters that somebody asks for change their class: torch's optimizers have faster ways
    for the class that they know.
    """
    if not isinstance(parameter, nn.Parameter):
        return parameter.as_subclass(BlobStatistic)
    if type(parameter) is nn.Parameter:
        parameter.__class__ = BlobParameter
    return parameter  # type: ignore[return-value]


def told_before(tensor: torch.Tensor, before_writing: Callable[[], None]) -> BlobData:
    """``tensor`` as blob data that calls ``before_writing`` each time before it is written to."""
    data = tensor.as_subclass(BlobData)
    data.before_writing = before_writing
    return data


def plain_array(value: object, who: str) -> np.ndarray:
    """A float32 (or float64) copy of a user's array or nested list, whatever its strides.

    Args:
        who: what to call it in a message.

    Raises:
        NetError: it is no array of real numbers.
    """
    try:
        array = np.asarray(value)
        wide = array.dtype == np.float64
        if array.dtype.kind not in "fiub":
            raise TypeError(f"it holds {array.dtype}")
        return np.array(array, dtype=np.float64 if wide else np.float32, order="C")
    except (TypeError, ValueError) as error:
        raise NetError(f"{who} is no array of numbers: {error}") from error


def to_plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without subclass and gradient graph; it shares the memory."""
    return tensor.detach().as_subclass(torch.Tensor)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's values as an array, wherever they are and whether they have a gradient or not."""
    plain = to_plain(tensor)
    # numpy has no bfloat16.
    wide = plain.float() if plain.dtype == torch.bfloat16 else plain
    return wide.cpu().numpy()


def _array(tensor: torch.Tensor, dtype: Any, copy: bool | None) -> np.ndarray:
    array = to_numpy(tensor)
    if dtype is not None and array.dtype != dtype:
        return array.astype(dtype)
    return array.copy() if copy else array
