"""Nets that only run forward: what a user chooses, and the engines that run them.

An engine is a file of ``caffecompat/inference/engines/``, found by its name::

    @inference_engines.register("torch")
    def optimize(net: Net, options: InferenceOptions) -> Optimization: ...
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, overload

import numpy as np
import torch
from torch import nn

from caffecompat.errors import ExportError, NetError
from caffecompat.graph import Version
from caffecompat.layers import Shape
from caffecompat.net.execution.parameter_changes import ParameterChanges
from caffecompat.net.execution.passes import Passes
from caffecompat.net.execution.precision import check_precision
from caffecompat.registry import Registry
from caffecompat.reporting.activity import Activity, heartbeat

if TYPE_CHECKING:
    from typing_extensions import Unpack

INFERENCE_PRECISIONS = ("fp32", "bf16", "fp16", "int8")

LOGGER = logging.getLogger("caffecompat")


@dataclass(frozen=True)
class InferenceOptions:
    """What :meth:`caffecompat.Net.optimize` may do; all that is on by default keeps the results.

    Attributes:
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``. Weights are converted once.
        remove: leave out layers that return their bottom (Dropout in TEST, Split).
        fold: take BatchNorm, Scale and Bias into the weights of the layer before them.
        fuse: compute activations and sums inside of the convolution before them.
        merge: compute 1x1 convolutions of the same bottom as one.
        pack: bring weights into the order in memory that the processor's kernels read.
        winograd: with ``pack``, compute large 3x3 convolutions with a quarter of the products.
        channels_last: keep blobs with four axes with their channels innermost.
        operators: with ONNX Runtime and OpenVINO, use operators that they are faster at, such as
            sums of convolutions instead of a convolution of a concatenation.
        short_waits: with ONNX Runtime, let its threads give the processor up a millisecond after a
            pass; by themselves they keep it for some tens of milliseconds.
        bind: with ONNX Runtime and OpenVINO, keep inputs and outputs bound to the model between
            passes.
        large_pages: move weights to pages of 2 MB, where the kernel has them.
        calibration: for ``int8``, batches by input name, each N x channels x height x width, to
            take the ranges of values from; or the number of batches to read from the net's own
            data layers.
        blobs: names of blobs that passes keep beside the outputs.
        shapes: the shapes of inputs that the net will run with most, by name; by default those of
            the definition. Engines are tuned and compared with them; other shapes run too.
    """

    precision: str = "fp32"
    remove: bool = True
    fold: bool = True
    fuse: bool = True
    merge: bool = True
    pack: bool = True
    winograd: bool = True
    channels_last: bool = True
    operators: bool = True
    short_waits: bool = True
    bind: bool = True
    large_pages: bool = True
    calibration: Sequence[Mapping[str, Any]] | int | None = None
    blobs: Sequence[str] = ()
    shapes: Mapping[str, Shape] | None = None


class InferenceKeywords(TypedDict, total=False):
    """The fields of :class:`InferenceOptions` as keywords."""

    precision: str
    remove: bool
    fold: bool
    fuse: bool
    merge: bool
    pack: bool
    winograd: bool
    channels_last: bool
    operators: bool
    short_waits: bool
    bind: bool
    large_pages: bool
    calibration: Sequence[Mapping[str, Any]] | int | None
    blobs: Sequence[str]
    shapes: Mapping[str, Shape] | None


class InferenceProgram(Protocol):
    """What runs instead of a net's own program; see :class:`caffecompat.net.fx_program.Program`.

    Attributes:
        feeds: the source tops that it takes, in order.
        versions: the blobs that it returns, in order.
    """

    feeds: list[Version]
    versions: list[Version]

    def __call__(
        self, feeds: Sequence[torch.Tensor]
    ) -> tuple[dict[Version, torch.Tensor], torch.Tensor | None]:
        """The outputs and the loss, without gradients."""
        ...


@dataclass(frozen=True)
class Optimization:
    """What an engine has made of a net.

    Attributes:
        engine: its name.
        precision: the one that passes have, which the user chose if the processor has it.
        lines: what was done, one line for each step.
        program: what runs.
    """

    engine: str
    precision: str
    lines: tuple[str, ...]
    program: InferenceProgram

    def __str__(self) -> str:
        return "\n".join([f"engine {self.engine}, {self.precision}", *self.lines])

    def __repr__(self) -> str:
        return f"<{self}>"


def tell(lines: Iterable[str]) -> None:
    """Logs lines, or writes them to standard error if nobody listens to the log."""
    for line in lines:
        if LOGGER.isEnabledFor(logging.INFO) and LOGGER.hasHandlers():
            LOGGER.info(line)
        else:
            sys.stderr.write(f"{line}\n")


inference_engines: Registry[Callable[[Any, InferenceOptions], Optimization]] = Registry(
    "engine", "caffecompat.inference.engines"
)
"""Engines by name, one file each; a new file needs no other change."""


class OptimizedPasses(nn.Module):
    """The methods of :class:`caffecompat.Net` for passes that need no gradients."""

    _passes: Passes
    _optimization: Optimization | None = None

    @overload
    def optimize(
        self: Any,
        engine: str = "fastest",
        options: InferenceOptions | None = None,
        **keywords: Unpack[InferenceKeywords],
    ) -> Optimization: ...

    @overload
    def optimize(self: Any, engine: None) -> None: ...

    def optimize(
        self: Any,
        engine: str | None = "fastest",
        options: InferenceOptions | None = None,
        **keywords: Unpack[InferenceKeywords],
    ) -> Optimization | None:
        """Makes forward passes as fast as the machine allows, and says how.

        :meth:`forward` and :meth:`run` then give the outputs alone, without gradients. Passes over
        some layers (``start``, ``end``) or with ``blobs`` that are not kept, and those of
        :meth:`run` while ``observe`` is on, run in the net's own way. Parameters stay as they are;
        call it again after changing them. Lines about what was done go to the log, or to standard
        error.

        Args:
            engine: ``"torch"``, ``"onnxruntime"``, ``"openvino"``, one of the last two with
                ``-parts``, which computes parts of a batch in one thread each, or ``"fastest"``,
                which measures those that are installed, for each size of inputs that is used
                often; None for the net's own program again.
            options: all other options; each field can also be given as a keyword, see
                :class:`InferenceOptions`.

        Returns:
            What was done; None for ``engine=None``.

        Raises:
            UnknownName: there is no such engine.
            MissingExtra: the engine is not installed.
            NetError: the net is in phase TRAIN, the precision is unknown, or int8 has no
                calibration.
        """
        if isinstance(self._passes.optimized, CurrentProgram):
            self._passes.optimized.close()
        self._passes.optimized = None
        self._optimization = None
        if engine is None:
            return None
        chosen = replace(options or InferenceOptions(), **keywords)
        _check(self, chosen)
        activity = Activity()
        with heartbeat(activity, LOGGER), activity.during(f"engine {engine}"):
            made = _made(self, engine, chosen)
        self._optimization = made
        self._passes.optimized = CurrentProgram(self, made.program)
        tell(str(made).splitlines())
        return made

    @property
    def optimization(self) -> Optimization | None:
        """What :meth:`optimize` has done; None for the net's own program."""
        return self._optimization

    def inference_program(self) -> InferenceProgram:
        """What forward passes without gradients run: the net's program, or the optimized one."""
        return self._passes.optimized or self._passes.program(observed=False)


class CurrentProgram:
    """An optimized program that refuses to run with the weights of yesterday."""

    def __init__(self, net: Any, program: InferenceProgram) -> None:
        self.feeds, self.versions = program.feeds, program.versions
        self._program = program
        self._changes_buffers = any(built.changes_buffers for built in net.layers)
        self._changes = ParameterChanges(net)

    def __call__(
        self, feeds: Sequence[torch.Tensor]
    ) -> tuple[dict[Version, torch.Tensor], torch.Tensor | None]:
        if self._changes.found():
            raise NetError(
                "the net's parameters have changed since optimize(), which has copied them; call "
                "optimize() again"
            )
        found = self._program(feeds)
        if self._changes_buffers:
            self._changes.accept()
        return found

    def close(self) -> None:
        """Gives the net's modules their own dictionaries of parameters again."""
        self._changes.close()


def _made(net: Any, engine: str, options: InferenceOptions) -> Optimization:
    """The net in an engine, or in torch if that engine cannot run it."""
    try:
        return inference_engines.find(engine)(net, options)
    except ExportError as error:
        if options.precision == "int8":
            raise NetError(
                f"{error}; torch, which could, has no int8: use precision fp32, or bf16 or fp16 "
                "with engine torch"
            ) from error
        made = inference_engines.find("torch")(net, options)
        return replace(made, lines=(f"{error}; it runs in torch", *made.lines))


def _check(net: Any, options: InferenceOptions) -> None:
    check_precision(options.precision, INFERENCE_PRECISIONS)
    if net.phase == "TRAIN":
        raise NetError(
            "optimize() is for nets in phase TEST; build the net with phase='test', or leave it out"
        )
    _check_shapes(net, options)


def _check_shapes(net: Any, options: InferenceOptions) -> None:
    known = {top.blob for built in net.layers if built.source for top in built.tops}
    unknown = [name for name in options.shapes or {} if name not in known]
    if unknown:
        raise NetError(
            f"shapes: the net has no input {unknown[0]!r}; its inputs are "
            f"{', '.join(sorted(known))}"
        )
    for name, shape in (options.shapes or {}).items():
        if not isinstance(shape, Sequence) or not all(
            isinstance(n, (int, np.integer)) and n > 0 for n in shape
        ):
            raise NetError(
                f"shapes: that of {name!r} is {shape!r}; give positive numbers, as in "
                f"shapes={{{name!r}: {net.blobs[name].shape}}}"
            )
