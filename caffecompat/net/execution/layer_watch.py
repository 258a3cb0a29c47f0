"""Slow passes: which layer they are in, and a way out of them between two layers.

The pre-forward hooks of torch cost a call of Python per layer, so only a pass that is expected to
be slow gets them: the first of its kind, and each that follows a slow one. Fast passes run without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from caffecompat.net import Net
from caffecompat.net.build import BuiltLayer
from caffecompat.reporting.activity import Activity

T = TypeVar("T")

# A pass that takes longer, in seconds, makes the next one of its kind a watched one.
_SLOW = 1.0


class StopRequested(Exception):
    """A pass was left between two layers, because someone asked the run to stop."""


class LayerWatch:
    """Runs passes; of slow ones it knows the layer, and it can end them between layers.

    Args:
        activity: told what is being done.
        possible: false where passes cannot be looked into: compiled ones and captured ones, which
            run as one piece, and those of several ranks, which wait for each other.
        stop_requested: asked before each layer of a slow pass; true leaves the pass.
    """

    def __init__(
        self, activity: Activity, possible: bool, stop_requested: Callable[[], bool]
    ) -> None:
        self.activity = activity
        self._stop_requested = stop_requested
        self._possible = possible
        self._seconds: dict[str, float] = {}
        self._to_the_end = False

    def run(self, net: Net, what: str, number: int, work: Callable[[], T]) -> T:
        """Does ``work``, the pass or passes ``number`` of the kind ``what`` of ``net``.

        Once a layer has run that cannot be set back (:attr:`Layer.can_be_set_back`: Python), they
        are done to their end.

        Raises:
            StopRequested: it was left between two layers; buffers of the net, such as running
                statistics, have the values again that they had before.
        """
        self.activity.begin(what, number)
        self._to_the_end = False
        started = time.monotonic()
        try:
            if self._possible and self._seconds.get(what, _SLOW) >= _SLOW:
                with _unchanged_if_stopped(net), self._hooks(net):
                    return work()
            return work()
        finally:
            self._seconds[what] = time.monotonic() - started
            self.activity.end()

    @contextmanager
    def _hooks(self, net: Net) -> Iterator[None]:
        handles = []
        for built in net.layers:
            if built.module is not None:
                enter, leave = self._before(built), self._after(built.name)
                handles.append(built.module.register_forward_pre_hook(enter))
                handles.append(built.module.register_forward_hook(leave))
        self.activity.layer = "reading data"
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, built: BuiltLayer) -> Callable[..., None]:
        text = f"forward, layer {built.name!r}"
        last = built.layer is not None and not built.layer.can_be_set_back

        def enter(module: Any, bottoms: Any) -> None:
            self._mark(text)
            self._to_the_end = self._to_the_end or last

        return enter

    def _after(self, name: str) -> Callable[..., None]:
        text = f"backward, layer {name!r}"

        def mark(gradient: torch.Tensor) -> None:
            self._mark(text)

        def leave(module: Any, bottoms: Any, tops: Any) -> None:
            for top in (tops,) if isinstance(tops, torch.Tensor) else tops or ():
                if top.requires_grad and not top.is_leaf:
                    top.register_hook(mark)

        return leave

    def _mark(self, text: str) -> None:
        self.activity.layer = text
        if self._stop_requested() and not self._to_the_end:
            raise StopRequested


@contextmanager
def _unchanged_if_stopped(net: Net) -> Iterator[None]:
    """Gives buffers and recurrent states their values back where a pass is left in the middle."""
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    layers = [b.layer for b in net.layers if getattr(b.layer, "keeps_state", False)]
    states = [getattr(layer, "state", None) for layer in layers]
    try:
        yield
    except StopRequested:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for layer, state in zip(layers, states, strict=True):
            setattr(layer, "state", state)  # noqa: B010
        raise
