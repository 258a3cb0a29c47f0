"""Compute options: precision, memory format, compilation, graphs, fusing, engines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TypedDict

import torch

from caffecompat.errors import SolverError
from caffecompat.net import Net
from caffecompat.net.execution.gpu.fusing import (
    FusingOptions,
    convolution_in_one_works,
    fuse,
    half_inputs,
)
from caffecompat.net.execution.gpu.tf32 import products_in_tf32
from caffecompat.net.execution.inference import InferenceOptions
from caffecompat.net.execution.precision import (
    HALVES,
    TRAINING_PRECISIONS,
    arithmetic,
    check_precision,
    keep_results_whole,
)
from caffecompat.net.kernels.choice import TORCH_OPERATORS, Kernels
from caffecompat.net.kernels.self_check import WorkingKernels, working_kernels


@dataclass(frozen=True)
class PassOptions:
    """Precision, memory format, compilation, CUDA graphs and kernels of passes.

    Attributes:
        precision: ``"fp32"``, ``"tf32"``, ``"bf16"`` or ``"fp16"``; weights, gradients of weights
            and updates are in fp32 in all of them.
        channels_last: whether blobs are in channels-last memory format; None means on a GPU in 16
            bits, where it is faster.
        compiled: compile the train net with ``torch.compile``.
        cuda_graph: capture a training pass in a CUDA graph and replay it; None means on one GPU,
            where the net can be captured.
        fused: on a GPU in 16 bits and channels-last, let one operation of the train net compute
            what several layers compute; see :mod:`caffecompat.net.execution.gpu.fusing`.
        kernels: use the Triton kernels of :mod:`caffecompat.net.kernels` where they work.
    """

    precision: str = "fp32"
    channels_last: bool | None = None
    compiled: bool = False
    cuda_graph: bool | None = None
    fused: bool = True
    kernels: bool = True


class PassKeywords(TypedDict, total=False):
    """The fields of :class:`PassOptions` as keywords, for type checkers."""

    precision: str
    channels_last: bool | None
    compiled: bool
    cuda_graph: bool | None
    fused: bool
    kernels: bool


@dataclass(frozen=True)
class ComputeOptions(PassOptions):
    """How nets compute: the options of their passes, and of what runs those that do not train.

    Attributes:
        engine: what runs nets that are not trained, see :meth:`caffecompat.Net.optimize`; empty for
            the net's own program. The precision may be int8, too, then.
        inference: options of the engine.
    """

    engine: str = ""
    inference: InferenceOptions | None = None

    @property
    def half(self) -> torch.dtype | None:
        """The 16-bit type of products, None in other precisions."""
        return HALVES.get(self.precision)

    @property
    def wants_half_weights(self) -> bool:
        """Whether products read weights in 16 bits that the update writes, where it can do that.

        In fp16 gradients are scaled, and 16 bits are too few for the division by the scale.
        """
        return self.fused and self.precision == "bf16"

    def settings(self) -> dict[str, str]:
        """What decides the values of passes, as JSON values; the engine is "" without one."""
        return {"precision": self.precision, "engine": self.engine}

    def check(self, device: torch.device, world_size: int, debug_info: bool = False) -> None:
        """Raises for options that are not available.

        Raises:
            NetError: there is no such precision.
            SolverError: CUDA graphs are not available, or ``debug_info`` is on, whose gradients
                fp16 would scale.
        """
        check_precision(self.precision, TRAINING_PRECISIONS)
        if self.precision == "fp16" and debug_info:
            raise SolverError(
                "debug_info shows gradients that fp16 has scaled; use another precision with it"
            )
        if self.cuda_graph and device.type != "cuda":
            raise SolverError(
                f"--cuda-graph: the training runs on device {device}, CUDA graphs need a GPU; "
                "give --gpu, or leave the flag out"
            )
        if self.cuda_graph and world_size > 1:
            raise SolverError(
                "--cuda-graph: works on one GPU only, since several sum their gradients during "
                "the backward pass; leave the flag out"
            )

    def kernels_on(self, device: torch.device) -> Kernels:
        """The Triton kernels that are used on ``device``."""
        return self._working_kernels(device).kernels

    def _working_kernels(self, device: torch.device) -> WorkingKernels:
        return working_kernels(device) if self.kernels else WorkingKernels(TORCH_OPERATORS)

    def prepare(self, net: Net, train: bool, blobs: Sequence[str] = ()) -> list[str]:
        """Applies the options to a net, before its first pass; returns lines for the log.

        Args:
            train: whether it is trained.
            blobs: what is read after a pass beside the outputs.

        Raises:
            NetError, UnknownName, MissingExtra: the engine cannot be used.
        """
        if self.engine and not train:
            options = self.inference or InferenceOptions()
            net.optimize(self.engine, replace(options, precision=self.precision, blobs=blobs))
            return []
        if self.half is not None:
            keep_results_whole(net.layers)
        if self._wants_channels_last(net):
            net.channels_last()
        if not train:
            return []
        working = self._working_kernels(net.device)
        net.use_kernels(working.kernels)
        lines, problems = [], list(working.problems)
        if self.compiled:
            net.compile()
        elif self._wants_fusing(net):
            assert self.half is not None
            in_one = convolution_in_one_works(net.device, self.half)
            lines = [fuse(net.program(), FusingOptions(working.kernels, in_one)).sentence()]
            net.use_half_inputs(half_inputs(net.program()))
            if not in_one:
                problems.append("cuDNN's convolution with ReLU does not work here")
        lines += [f"A kernel is replaced by torch's operators: {problem}" for problem in problems]
        return [line for line in lines if line]

    def _wants_fusing(self, net: Net) -> bool:
        half = self.half is not None and self._wants_channels_last(net)
        return self.fused and half and net.device.type == "cuda"

    def _wants_channels_last(self, net: Net) -> bool:
        if self.channels_last is not None:
            return self.channels_last
        layers = [built.layer for built in net.layers if built.layer is not None]
        faster = any(layer.prefers_channels_last for layer in layers)
        return self.half is not None and faster and net.device.type == "cuda"

    def forward(self, device: torch.device) -> AbstractContextManager[None]:
        """The context of a forward pass."""
        if self.engine or self.precision == "fp32":
            return nullcontext()
        return arithmetic(device, self.precision)

    def whole_pass(self) -> AbstractContextManager[None]:
        """The context of a forward and backward pass."""
        return products_in_tf32(True) if self.precision == "tf32" else nullcontext()
