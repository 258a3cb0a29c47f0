"""The passes of a training on a GPU as a CUDA graph that is played back."""

from __future__ import annotations

import logging

import torch

from caffecompat.errors import first_line
from caffecompat.net import Net, Result
from caffecompat.net.execution.gpu.cuda_graph import CapturedPass, NotCapturable
from caffecompat.net.execution.gpu.fusing import use_torch_operators
from caffecompat.net.execution.gpu.half_weights import HalfWeights
from caffecompat.net.kernels.choice import TORCH_OPERATORS
from caffecompat.net.kernels.launching import KernelFailed
from caffecompat.solver.graph_update import GraphUpdate
from caffecompat.solver.optim.grad_scaler import GradScaler
from caffecompat.solver.optim.optimizer import Optimizer
from caffecompat.solver.setup.build_nets import NetOptions
from caffecompat.solver.setup.capturing import (
    obstacle_to_capture,
    obstacle_to_update,
    what_is_captured,
)
from caffecompat.solver.setup.settings import Settings


class PlayedPasses:
    """Captures a pass of a train net where it can be captured, and plays it back.

    Args:
        net: the train net.
        optimizer: of its parameters.
        settings: of the solver.
        options: compute options, and the ranks that train together.
        scaler: of the loss, in fp16.
        stopped: see :class:`GraphUpdate`.
        log: for the lines about what is captured; only for nets on a GPU.

    Attributes:
        wanted: passes are, or will be, played back.
        with_update: the update is part of them.
    """

    def __init__(
        self,
        net: Net,
        optimizer: Optimizer,
        settings: Settings,
        options: NetOptions,
        scaler: GradScaler | None,
        stopped: torch.Tensor | None,
        log: logging.Logger,
    ) -> None:
        self._net = net
        self._optimizer = optimizer
        self._compute = options.compute
        self._log = log
        self.wanted = self.with_update = False
        self._captured: CapturedPass | None = None
        if not self._plan(settings, options.process_group.world_size):
            return
        halves = self._half_weights()
        copies = {} if halves is None else halves.of([e.tensor for e in net.learnable])
        self._captured = CapturedPass(
            net,
            lambda: options.compute.forward(net.device),
            None if scaler is None else scaler.value,
            adds_up=settings.message.iter_size > 1,
            end=GraphUpdate(optimizer, scaler, stopped, copies) if self.with_update else None,
            halves=halves,
        )

    def _plan(self, settings: Settings, ranks: int) -> bool:
        """Chooses what is captured; a line about it for a GPU."""
        device, compute = self._net.device, self._compute
        reason = obstacle_to_capture(self._net.layers, device, compute, ranks)
        if reason:
            self._tell(f"CUDA graph: passes are not captured: {reason}")
            return False
        outside = self._optimizer.obstacle or obstacle_to_update(
            settings.message, settings.policy, compute, device
        )
        self._tell(what_is_captured(outside))
        self.wanted, self.with_update = True, not outside
        return True

    def _tell(self, line: str) -> None:
        if self._net.device.type == "cuda":
            self._log.info(line)

    def _half_weights(self) -> HalfWeights | None:
        """Copies of the weights in 16 bits that the update keeps up to date, where it can."""
        writes = self.with_update and self._optimizer.writes_copies
        if not (writes and self._compute.wants_half_weights):
            return None
        return HalfWeights(self._net.layers, torch.bfloat16)

    def weights_changed(self) -> None:
        """Says that weights may have been changed by something else than a played update."""
        if self._captured is not None:
            self._captured.weights_changed()

    def prepare(self, index: int) -> bool:
        """Makes pass ``index`` ready to be played back; the first one is captured.

        Returns:
            Whether it is; if not, passes cannot be played back any more.

        Raises:
            NotCapturable, OutOfMemoryError: neither, and the user has asked for a graph, or
                memory is short in the middle of the training.
        """
        captured = self._captured
        assert captured is not None
        try:
            self._prepare(captured, index)
        except (NotCapturable, torch.OutOfMemoryError) as error:
            asked_for = self._compute.cuda_graph is not None
            if asked_for or (captured.ready and not isinstance(error, NotCapturable)):
                raise
            self._log.info(f"Passes are launched one by one from here on: {first_line(error)}")
            self._captured, self.wanted, self.with_update = None, False, False
            return False
        return True

    def _prepare(self, captured: CapturedPass, index: int) -> None:
        """Prepares a pass, with torch's operators in place of a kernel that does not run."""
        try:
            captured.prepare(index)
        except KernelFailed as error:
            # Kernels are compiled before the capture, which leaves all as it was.
            self._log.info(f"torch's operators replace the kernels: {error.problem}")
            self._net.use_kernels(TORCH_OPERATORS)
            use_torch_operators(self._net.program())
            self._optimizer.use_torch_operators()
            captured.prepare(index)

    def play(self) -> Result:
        """Plays the pass back that is prepared."""
        assert self._captured is not None
        return self._captured.replay()
