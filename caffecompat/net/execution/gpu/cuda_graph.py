"""A forward and backward pass as one CUDA graph."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Protocol

import torch

from caffecompat.errors import CaffeError, NetError, first_line
from caffecompat.garbage_collection import collections_paused
from caffecompat.graph import Version
from caffecompat.net.execution.gpu.half_weights import HalfWeights
from caffecompat.net.input_gradients import inputs_with_gradient
from caffecompat.net.kernels.launching import KernelFailed
from caffecompat.net.kernels.memory_format import copy_with_layout
from caffecompat.net.net import Net, Result

# The number of warm-up passes that torch's documentation recommends.
_WARM_UP = 3
_REMEDY = "train with --no-cuda-graph (cuda_graph=False)"
# Kept, because torch's allocators go on asking a graph whose capture could not be ended.
_FAILED: list[torch.cuda.CUDAGraph] = []


class NotCapturable(NetError):
    """A pass cannot be captured or played back; it can be run."""


class PassEnd(Protocol):
    """What a captured pass does after its backward pass.

    Attributes:
        changed: the tensors that it changes whatever ``held`` is.
    """

    @property
    def changed(self) -> Sequence[torch.Tensor]: ...

    def __call__(self, loss: torch.Tensor, held: torch.Tensor) -> None:
        """Launches its work.

        Args:
            loss: of the pass.
            held: 0-axis tensor; while it is 1 (in passes before the capture) parameters and their
                history must stay as they are.
        """
        ...


class CapturedPass:
    """Captures a pass of ``net`` and replays it, with one launch instead of hundreds.

    Batches are copied into the captured inputs, which get gradients where the net's do. Dropout and
    other noise differ from pass to pass, because they depend on the pass number, which is a tensor.
    Gradients must not be reallocated.

    Args:
        net: on a CUDA device; all its batches have one shape.
        arithmetic: returns the context of the forward pass.
        scale: 0-axis tensor by which the loss is multiplied before the backward pass.
        adds_up: gradients are added to those in ``.grad``; otherwise they replace them, so that
            they need not be cleared.
        end: what follows the backward pass and is captured with it, such as the update.
        halves: weights in 16 bits that the passes compute with, which ``end`` keeps up to date;
            only without ``adds_up``.
    """

    def __init__(
        self,
        net: Net,
        arithmetic: Callable[[], AbstractContextManager[None]],
        scale: torch.Tensor | None = None,
        adds_up: bool = True,
        end: PassEnd | None = None,
        halves: HalfWeights | None = None,
    ) -> None:
        self._net = net
        self._arithmetic = arithmetic
        self._scale = scale
        self._adds_up = adds_up
        self._end = end
        self._halves = halves
        self._held = torch.zeros((), device=net.device)
        self._program = net.program()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._feeds: list[torch.Tensor] = []
        self._values: dict[Version, torch.Tensor] = {}

    @property
    def ready(self) -> bool:
        """Whether a pass has been captured."""
        return self._graph is not None

    def run(self, index: int) -> Result:
        """Pass number ``index``; :meth:`prepare` and :meth:`replay`."""
        self.prepare(index)
        return self.replay()

    def prepare(self, index: int) -> None:
        """Reads the inputs of pass number ``index``; captures the first one.

        Raises:
            NotCapturable: the net cannot be captured, or a batch has another shape.
            KernelFailed: a kernel does not run; all is as it was before.
        """
        with self._arithmetic():
            feeds = self._net.feeds(index)
        if self._graph is None:
            self._capture(feeds)
        for top, static, value in zip(self._program.feeds, self._feeds, feeds, strict=True):
            if static.shape != value.shape:
                raise NotCapturable(
                    f"CUDA graph: {top.blob!r} is {tuple(value.shape)} in this batch and was "
                    f"{tuple(static.shape)} in the first one; {_REMEDY}"
                )
            static.detach().copy_(value)
        if self._halves is not None:
            self._halves.refresh()
        self._net.position.fill_(index)

    def replay(self) -> Result:
        """The pass that is prepared, forward and backward.

        Returns:
            Outputs and loss without gradients; the next pass overwrites them.
        """
        assert self._graph is not None
        self._graph.replay()
        # Else the blobs would show an earlier pass.
        self._net.keep_values(self._values, self._result.loss)
        return self._result

    def weights_changed(self) -> None:
        """Says that weights may have been changed by something else than the end of a pass."""
        if self._halves is not None:
            self._halves.stale = True

    def _capture(self, feeds: list[torch.Tensor]) -> None:
        for built in self._net.layers:
            if built.layer is not None and built.layer.keeps_state:
                raise NotCapturable(
                    f"CUDA graph: {built.place}: it keeps its state from pass to pass; {_REMEDY}"
                )
        wanted = inputs_with_gradient(self._net.layers, self._net.graph.force_backward)
        self._feeds = [
            copy_with_layout(value).requires_grad_(top in wanted)
            for top, value in zip(self._program.feeds, feeds, strict=True)
        ]
        # The graph of an earlier pass binds the parameters' gradients to another stream.
        self._net.release_values()
        gc.collect()
        learned: list[torch.Tensor] = [p for p in self._net.parameters() if p.requires_grad]
        if self._halves is not None:
            learned += self._halves.tensors
            self._halves.refresh()
        changed = list(self._net.buffers())
        if self._end is not None:
            changed += self._end.changed
        if self._adds_up:
            for parameter in learned:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            changed += [p.grad for p in learned if p.grad is not None]
        before = [tensor.clone() for tensor in changed]
        self._held.fill_(1)
        try:
            self._graph = self._captured(learned)
        finally:
            self._held.fill_(0)
            with torch.no_grad():
                for tensor, value in zip(changed, before, strict=True):
                    tensor.copy_(value)

    def _captured(self, learned: Sequence[torch.Tensor]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(self._net.device)
        try:
            # torch would capture on the current device, which may be another one.
            with torch.cuda.device(self._net.device):
                self._warm_up(stream)
                for parameter in () if self._adds_up else learned:
                    # The captured pass makes a tensor of its own for it.
                    parameter.grad = None
                # A collection could free what must not be freed in a capture.
                with collections_paused(), _capture(graph, stream):
                    self._result = self._pass()
        except (CaffeError, torch.OutOfMemoryError):
            raise
        except RuntimeError as error:
            # The end of a capture that has failed is an error too, which hides the first one.
            if isinstance(error.__context__, (KernelFailed, torch.OutOfMemoryError)):
                raise error.__context__ from None
            raise NotCapturable(
                f"CUDA graph: this net cannot be captured: {first_line(error)}; {_REMEDY}"
            ) from error
        return graph

    def _warm_up(self, stream: torch.cuda.Stream) -> None:
        user = torch.cuda.current_stream(self._net.device)
        stream.wait_stream(user)
        try:
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    self._pass()
        finally:
            # Also before what the passes have changed is put back after an error.
            user.wait_stream(stream)

    def _pass(self) -> Result:
        # Within a context of the caller's, casts of weights would be kept from pass to pass, and
        # the captured one would read those of the warm-up.
        torch.clear_autocast_cache()
        for feed in self._feeds:
            # As in a pass over new inputs: the gradients of passes do not add up.
            feed.grad = None
        with self._arithmetic(), self._halves.used() if self._halves else nullcontext():
            values, loss = self._program(self._feeds)
        if loss is None:
            raise NotCapturable("CUDA graph: the net has no loss")
        if loss.requires_grad:
            (loss if self._scale is None else loss * self._scale).backward()
        if self._end is not None:
            self._end(loss.detach(), self._held)
        self._values = dict(zip(self._program.feeds, self._feeds, strict=True))
        self._values |= {version: values[version].detach() for version in self._program.versions}
        outputs = {version.blob: self._values[version] for version in self._program.versions}
        return Result(outputs, loss.detach())


@contextmanager
def _capture(graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream) -> Iterator[None]:
    """A capture on ``stream`` that, if it fails, leaves torch as it was.

    An operation that cannot be captured makes the end of the capture fail, too. torch then stays on
    the capture's stream, and its allocator in the capture: memory that several streams have used,
    such as that of batches, would never be free again.
    """
    pool = torch.cuda.graph_pool_handle()
    # Data threads may use CUDA meanwhile.
    capture = torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local")
    try:
        with torch.cuda.stream(stream), capture:
            yield
    except BaseException:
        _end_allocation(graph, pool, stream.device)
        raise


def _end_allocation(graph: torch.cuda.CUDAGraph, pool: Any, device: torch.device) -> None:
    """Takes torch's allocator out of a capture that could not be ended."""
    try:
        graph.pool()
    except RuntimeError:
        _FAILED.append(graph)
        # torch has no public functions for it: use_mem_pool() ends only what it has begun. They
        # refuse a capture that has not begun.
        for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
            end = getattr(torch._C, name, None)
            if end is not None:
                with suppress(RuntimeError):
                    end(device.index, pool)
