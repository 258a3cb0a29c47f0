"""Tensors that numpy can read and write, for ``data`` and ``diff`` of blobs as in pycaffe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from caffecompat.errors import NetError
from caffecompat.reporting.units import format_shape

_NUMPY_ONLY = frozenset(dir(np.ndarray)) - frozenset(dir(torch.Tensor))


class BlobData(torch.Tensor):
    """The values of a blob: a tensor without gradient graph that shares the blob's memory.

    ``data[...] = array`` writes numpy arrays, tensors and nested lists of any number type into the
    blob, on a GPU too. ``np.asarray(data)`` is an array; on a CPU it shares the memory. The results
    of torch's functions are ordinary tensors.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    # Called before each write, if it is not None.
    before_writing: Callable[[], None] | None = None

    def __getitem__(self, index: Any) -> BlobData:
        part = super().__getitem__(index).as_subclass(BlobData)
        part.before_writing = self.before_writing
        return part

    def __setitem__(self, index: Any, value: Any) -> None:
        """Writes ``value``, which must have the shape of ``self[index]`` or broadcast to it.

        Raises:
            NetError: it is not an array of numbers, or has another shape.
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
        """All values along one axis; ``data.flat = array`` writes an array of any shape."""
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
        return self._written(plain_tensor(self) + self._as_mine(other))

    def __isub__(self, other: Any) -> BlobData:  # type: ignore[misc]
        return self._written(plain_tensor(self) - self._as_mine(other))

    def __imul__(self, other: Any) -> BlobData:  # type: ignore[misc]
        return self._written(plain_tensor(self) * self._as_mine(other))

    def __itruediv__(self, other: Any) -> BlobData:  # type: ignore[misc]
        return self._written(plain_tensor(self) / self._as_mine(other))

    def _written(self, values: torch.Tensor) -> BlobData:
        self[...] = values
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return _array(self, dtype, copy)

    def __array_wrap__(self, array: np.ndarray, *_: Any) -> np.ndarray:
        """The results of numpy's functions are arrays."""
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
    """A learned blob: torch's parameter, with ``data`` and ``diff`` that numpy can write."""

    @property
    def data(self) -> BlobData:
        return torch.Tensor.detach(self).as_subclass(BlobData)

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        nn.Parameter.data.__set__(self, value)  # type: ignore[attr-defined]

    @property
    def diff(self) -> BlobData:  # type: ignore[override]
        """The gradient, torch's ``grad``; zeros, which can be written to, if there is none."""
        if self.grad is not None:
            return self.grad.as_subclass(BlobData)
        zeros = torch.zeros_like(self, requires_grad=False)

        def keep() -> None:
            self.grad = zeros

        return with_write_hook(zeros, keep)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return _array(self, dtype, copy)

    def __repr__(self) -> str:  # type: ignore[override]
        return repr(nn.Parameter(plain_tensor(self), self.requires_grad))


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
    """A layer's parameter with Caffe's ``data`` and ``diff``; a learned one is the same object.

    The class of a parameter changes only here, because torch's optimizers are faster for plain
    ``nn.Parameter`` objects.
    """
    if not isinstance(parameter, nn.Parameter):
        return parameter.as_subclass(BlobStatistic)
    if type(parameter) is nn.Parameter:
        parameter.__class__ = BlobParameter
    return parameter  # type: ignore[return-value]


def with_write_hook(tensor: torch.Tensor, before_writing: Callable[[], None]) -> BlobData:
    """``tensor`` as blob data that calls ``before_writing`` each time before it is written to."""
    data = tensor.as_subclass(BlobData)
    data.before_writing = before_writing
    return data


def plain_array(value: object, who: str) -> np.ndarray:
    """A contiguous float32 (or float64) copy of a user's array or nested list.

    Args:
        who: the name of the array in messages.

    Raises:
        NetError: it is not an array of real numbers.
    """
    try:
        array = np.asarray(value)
        wide = array.dtype == np.float64
        if array.dtype.kind not in "fiub":
            raise TypeError(f"it holds {array.dtype}")
        return np.array(array, dtype=np.float64 if wide else np.float32, order="C")
    except (TypeError, ValueError) as error:
        raise NetError(f"{who} is no array of numbers: {error}") from error


def plain_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without subclass and gradient graph, in the same memory."""
    return tensor.detach().as_subclass(torch.Tensor)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's values as an array, for tensors on any device, with or without gradient."""
    plain = plain_tensor(tensor)
    # numpy has no bfloat16.
    wide = plain.float() if plain.dtype == torch.bfloat16 else plain
    return wide.cpu().numpy()


def _array(tensor: torch.Tensor, dtype: Any, copy: bool | None) -> np.ndarray:
    array = to_numpy(tensor)
    if dtype is not None and array.dtype != dtype:
        return array.astype(dtype)
    return array.copy() if copy else array
