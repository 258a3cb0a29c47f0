"""Python: a layer that is written in Python for pycaffe."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from caffecompat.errors import CodeNotAllowed, LayerError
from caffecompat.layers._base import Layer, Message, Shape, at_least, register
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._pycaffe_objects import BlobVector, NumpyBlob, PhaseNumber, pycaffe_name
from caffecompat.proto.schema import new
from caffecompat.reporting.code_places import raised_at

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

log = logging.getLogger(__name__)


@register("Python")
class Python(Layer):
    """Runs ``setup``, ``reshape``, ``forward`` and ``backward`` of a user's class.

    ``python_param`` names ``module`` (found on the import path), ``layer`` (a class in it) and
    ``param_str``. The class works on blobs with numpy arrays ``data`` and ``diff``; its backward
    pass takes part in autograd. Any number of bottoms and tops; ``share_in_parallel`` is ignored.

    Some well-known classes, as those of py-faster-rcnn, are built in, and their nets need no code;
    ``caffecompat layers Python`` shows them. If code is allowed and the named module can be
    imported, the module runs.

    The module's code runs when the net is built, so the user must allow it:
    ``Net(..., allow_python=True)`` or ``--allow-python``. A stop request during a pass in which the
    layer has run takes effect after the iteration. Source: Caffe's Python layer.
    """

    bottoms = at_least(0)
    tops = at_least(0)
    # User code may keep state anywhere, e.g. in its module or in numpy's random generator.
    can_be_restored = False
    differentiable = (True,)
    imports_code = True
    loss_reduction = LossReduction.unknown()

    @classmethod
    def finds_code(cls, message: Message) -> bool:
        p = message.python_param
        with pycaffe_name():
            try:
                module = importlib.import_module(p.module)
            except Exception as error:
                if _is_not_there(p.module, error):
                    log.info("cannot import %s: %s", p.module, error)
                    return False
                # Published code is often for Python 2.
                log.warning(
                    "cannot import %s, so that %s built in here runs in its place: %s: %s%s",
                    p.module,
                    p.layer,
                    type(error).__name__,
                    error,
                    f" ({place})" if (place := raised_at(error)) else "",
                )
                return False
        return isinstance(getattr(module, p.layer, None), type)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.python_param
        if not self.context.options.allow_python:
            place = self.context.place
            raise CodeNotAllowed(
                f"{place}: runs code from module {p.module!r}; if you trust it, allow it with "
                "Net(..., allow_python=True) or --allow-python",
                place,
            )
        if p.share_in_parallel:
            self.note("share_in_parallel has no effect here")
        self.user = self._made(self._user_class(p), message)
        self.user.param_str = self.user.param_str_ = p.param_str
        self.user.phase = PhaseNumber(not self.training)
        self.user.blobs = BlobVector()
        self._reshaped: list[Shape] | None = None
        self.bottom = [NumpyBlob(shape) for shape in bottoms]
        # In place a top is the blob of its bottom, as in Caffe.
        pairs = zip(message.bottom, message.top, strict=False)
        self.overwritten = [i for i, (bottom, top) in enumerate(pairs) if bottom == top]
        self.top = [
            self.bottom[i] if i in self.overwritten else NumpyBlob((0,))
            for i in range(len(message.top))
        ]
        self._call("setup", self.bottom, self.top)
        self._call("reshape", self.bottom, self.top)
        self._reshaped = [blob.shape for blob in self.bottom]
        self._own_blobs = tuple(self.user.blobs)
        for i, blob in enumerate(self.user.blobs):
            filler = new("FillerParameter")
            self.parameter(f"blob{i}", blob.shape, filler, values=blob.data)

    def infer(self, *bottoms: Tensor, **parameters: Tensor) -> tuple[Tensor, ...]:
        import torch

        # setup has called the user's reshape for the first shapes.
        if [tuple(bottom.shape) for bottom in bottoms] != self._reshaped:
            self._resize_bottoms(bottoms)
            self._call("reshape", self.bottom, self.top)
        self._reshaped = None
        return tuple(torch.empty(tuple(top.shape), device="meta") for top in self.top)

    def forward(self, *bottoms: Tensor, **parameters: Tensor) -> Tensor | tuple[Tensor, ...]:
        from caffecompat.layers._python_autograd import run

        tops = run(self, bottoms, tuple(parameters.values()))
        return tops[0] if len(tops) == 1 else tops

    def compute(
        self, bottoms: Sequence[np.ndarray], parameters: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """The user's forward pass: tops from bottoms and parameters."""
        self._resize_bottoms(bottoms)
        # In Caffe a reshape within a pass sees the values of that pass, e.g. to count labels.
        self._load(bottoms, parameters)
        with self._with_own_blobs():
            self._call("reshape", self.bottom, self.top)
            self._call("forward", self.bottom, self.top)
        return [top.data.copy() for top in self.top]

    def compute_gradients(
        self,
        bottoms: Sequence[np.ndarray],
        parameters: Sequence[np.ndarray],
        top_diffs: Sequence[np.ndarray],
        wanted: Sequence[bool],
    ) -> list[np.ndarray]:
        """The user's backward pass: gradients of the bottoms, then of the parameters."""
        self._load(bottoms, parameters)
        # A bottom's diff that the user's code leaves alone is that of the last pass, as in Caffe.
        for blob in self._own_blobs:
            blob.diff[...] = 0
        for blob, diff in zip(self.top, top_diffs, strict=True):
            blob.diff[...] = diff
        with self._with_own_blobs():
            self._call("backward", self.top, list(wanted), self.bottom)
        return [blob.diff.copy() for blob in (*self.bottom, *self._own_blobs)]

    @contextmanager
    def _with_own_blobs(self) -> Iterator[None]:
        """``self.blobs`` of the user's class are arrays of this layer, not pycaffe's."""
        shown = list(self.user.blobs)
        self.user.blobs[:] = self._own_blobs
        try:
            yield
        finally:
            self.user.blobs[:] = shown

    def _load(self, bottoms: Sequence[np.ndarray], parameters: Sequence[np.ndarray]) -> None:
        blobs = (*self.bottom, *self._own_blobs)
        for blob, value in zip(blobs, (*bottoms, *parameters), strict=True):
            blob.data[...] = value

    def _resize_bottoms(self, bottoms: Sequence[Any]) -> None:
        for blob, value in zip(self.bottom, bottoms, strict=True):
            blob.reshape(*value.shape)

    def _user_class(self, p: Message) -> type[Any]:
        with pycaffe_name():
            try:
                module = importlib.import_module(p.module)
            except Exception as error:
                if _is_not_there(p.module, error):
                    raise UserCodeError(
                        f"{self.context.place}: cannot import module {p.module!r}: {error}; put "
                        "its folder on PYTHONPATH"
                    ) from error
                raise self._failure(f"importing module {p.module!r}", error) from error
        found = getattr(module, p.layer, None)
        self.check(isinstance(found, type), f"module {p.module!r} has no class {p.layer!r}")
        assert isinstance(found, type)
        return found

    def _made(self, user_class: type[Any], message: Message) -> Any:
        """The user's object; as in Caffe its ``__init__`` may take the LayerParameter."""
        with pycaffe_name():
            try:
                if user_class.__init__ is object.__init__:
                    return user_class()
                return user_class(message)
            except Exception as error:
                raise self._failure("its __init__", error) from error

    def _call(self, step: str, *arguments: Any) -> None:
        with pycaffe_name():
            try:
                getattr(self.user, step)(*arguments)
            except Exception as error:
                raise self._failure(f"its {step}", error) from error

    def _failure(self, step: str, error: Exception) -> UserCodeError:
        """The user's exception in one sentence; raise it from ``error`` to keep the traceback."""
        place = raised_at(error)
        where = f" at {place}" if place else ""
        what = f"{type(error).__name__}: {error}"
        return UserCodeError(f"{self.context.place}: {step} failed{where}: {what}")


def _is_not_there(module: str, error: Exception) -> bool:
    """Whether an import failed because the module itself, or its package, is not on the path."""
    return isinstance(error, ImportError) and f"{module}.".startswith(f"{error.name}.")


class UserCodeError(LayerError):
    """The user's code raised the exception that is the ``__cause__`` of this one."""
