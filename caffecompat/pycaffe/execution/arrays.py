"""The numpy arrays that ``data`` and ``diff`` of a blob give."""

from __future__ import annotations

from typing import Any

import numpy as np


class BlobArray(np.ndarray):
    """A view of a blob's memory; what is written into it is written into the blob.

    It is an ordinary array, except that its errors name the blob. The results of numpy's functions
    are plain arrays.
    """

    # "blob 'fc8'", for messages.
    blob: str

    def __array_finalize__(self, source: Any) -> None:
        self.blob = getattr(source, "blob", "")

    def __setitem__(self, index: Any, value: Any) -> None:
        """Writes ``value``, which must broadcast to the shape of ``self[index]``.

        Raises:
            ValueError, TypeError: it has another shape, or is not numeric.
        """
        try:
            super().__setitem__(index, value)
        except (ValueError, TypeError) as error:
            if not self.blob:
                raise
            raise type(error)(f"{self.blob}: {error}") from None

    def __array_wrap__(
        self, array: np.ndarray, context: Any = None, return_scalar: bool = False
    ) -> Any:
        if array is self:
            return array
        plain = np.asarray(array)
        return plain[()] if return_scalar or plain.ndim == 0 else plain

    def copy(self, order: Any = "C") -> np.ndarray:
        """A plain array, which is no longer part of the blob."""
        return np.array(self, order=order)

    def astype(self, *arguments: Any, **keywords: Any) -> np.ndarray:
        """A plain array of another type."""
        return np.asarray(self).astype(*arguments, **keywords)

    def __reduce__(self) -> Any:
        return np.asarray(self).__reduce__()

    def __repr__(self) -> str:
        return repr(np.asarray(self))


def named_array(array: np.ndarray, blob: str) -> BlobArray:
    """``array`` as the array of a blob, in the same memory."""
    named = array.view(BlobArray)
    named.blob = blob
    return named
