"""A forward and backward pass as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from caffecompat.errors import CaffeError, NetError, first_line
from caffecompat.net.net import Net, Result

# torch's own advice: so many passes until its libraries have chosen and allocated everything.
_WARM_UP = 3


class CapturedPass:
    """Records a pass of ``net`` once and plays it back, with one launch instead of hundreds.

    Batches are copied to where the recorded one was; dropout and other noise go on, since they
    depend on the pass's number, which is a tensor. Gradients must stay where they are.

    Args:
        net: on a CUDA device; all its batches have one shape.
        arithmetic: makes the context that the forward pass runs in.
        scale: 0-axis tensor that the loss is multiplied with before the backward pass.
        adds_up: gradients are added to those in ``.grad``; otherwise they take their place, so
            that nobody need clear them.
    """

    def __init__(
        self,
        net: Net,
        arithmetic: Callable[[], AbstractContextManager[None]],
        scale: torch.Tensor | None = None,
        adds_up: bool = True,
    ) -> None:
        self._net = net
        self._arithmetic = arithmetic
        self._scale = scale
        self._adds_up = adds_up
        self._program = net.program()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._feeds: list[torch.Tensor] = []

    def run(self, index: int) -> Result:
        """Pass number ``index``, forward and backward.

        Returns:
            Outputs and loss without gradients; the next pass overwrites them.

        Raises:
            NetError: the net does what cannot be captured, or a batch has another shape.
        """
        feeds = self._net.feeds(index)
        if self._graph is None:
            self._capture(feeds)
        assert self._graph is not None
        for top, static, value in zip(self._program.feeds, self._feeds, feeds, strict=True):
            if static.shape != value.shape:
                raise NetError(
                    f"CUDA graph: {top.blob!r} is {tuple(value.shape)} in this batch and was "
                    f"{tuple(static.shape)} in the first one; train without the graph"
                )
            static.copy_(value)
        self._net.position.fill_(index)
        self._graph.replay()
        return self._result

    def _capture(self, feeds: list[torch.Tensor]) -> None:
        for built in self._net.layers:
            if built.layer is not None and built.layer.keeps_state:
                raise NetError(
                    f"CUDA graph: {built.place}: it hands its state on from pass to pass; train "
                    "without the graph"
                )
        self._feeds = [value.detach().clone() for value in feeds]
        learned = [p for p in self._net.parameters() if p.requires_grad]
        changed = list(self._net.buffers())
        if self._adds_up:
            for parameter in learned:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            changed += [p.grad for p in learned if p.grad is not None]
        before = [tensor.clone() for tensor in changed]
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(self._net.device)
        try:
            # torch would capture on the current device, which may be another one.
            with torch.cuda.device(self._net.device):
                self._warm_up(stream)
                for parameter in () if self._adds_up else learned:
                    # The captured pass makes a tensor of its own for it.
                    parameter.grad = None
                # Data threads may use CUDA meanwhile.
                with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                    self._result = self._pass()
        except CaffeError:
            raise
        except RuntimeError as error:
            raise NetError(
                f"CUDA graph: this net cannot be captured, train without the graph: "
                f"{first_line(error)}"
            ) from error
        with torch.no_grad():
            for tensor, value in zip(changed, before, strict=True):
                tensor.copy_(value)
        self._graph = graph

    def _warm_up(self, stream: torch.cuda.Stream) -> None:
        user = torch.cuda.current_stream(self._net.device)
        stream.wait_stream(user)
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._pass()
        user.wait_stream(stream)

    def _pass(self) -> Result:
        with self._arithmetic():
            values, loss = self._program(self._feeds)
        if loss is None:
            raise NetError("CUDA graph: the net has no loss")
        if loss.requires_grad:
            (loss if self._scale is None else loss * self._scale).backward()
        outputs = {version.blob: values[version].detach() for version in self._program.versions}
        return Result(outputs, loss.detach())
