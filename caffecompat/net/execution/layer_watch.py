"""Reports the current layer of slow passes, and interrupts them between two layers.

torch's forward hooks cost a Python call per layer, so they are used only in passes that are
expected to be slow: in the first pass of its kind, and after a slow one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.utils.hooks import RemovableHandle

from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.execution.kept_state import unchanged_by
from caffecompat.reporting.activity import Activity

T = TypeVar("T")

# After a pass that takes longer, in seconds, the next one of its kind has hooks.
_SLOW = 1.0


class StopRequested(Exception):
    """A pass was interrupted between two layers by a stop request."""


class LayerWatch:
    """Runs passes; reports the current layer of slow ones and can interrupt them.

    Args:
        activity: gets the current pass and layer.
        possible: the initial value of the attribute.

    Attributes:
        possible: false if passes cannot be interrupted: compiled or captured passes, and passes on
            several ranks, which wait for each other.
        stop_requested: called before each layer of a slow pass; true interrupts the pass. By
            default nothing does.
    """

    def __init__(self, activity: Activity, possible: bool) -> None:
        self.activity = activity
        self.possible = possible
        self.stop_requested: Callable[[], bool] = _never
        self._seconds: dict[str, float] = {}
        self._to_the_end = False

    def run(self, net: Net, what: str, number: int, work: Callable[[], T]) -> T:
        """Calls ``work``, which runs pass ``number`` of the kind ``what`` of ``net``.

        After a layer without :attr:`Layer.can_be_restored` (Python) has run, the pass is not
        interrupted.

        Raises:
            StopRequested: the pass was interrupted; what it has changed in the net is as before.
        """
        self.activity.begin(what, number)
        self._to_the_end = False
        started = time.monotonic()
        try:
            if self.possible and self._seconds.get(what, _SLOW) >= _SLOW:
                with unchanged_by(net, StopRequested), self._hooks(net):
                    return work()
            return work()
        finally:
            self._seconds[what] = time.monotonic() - started
            self.activity.end()

    @contextmanager
    def _hooks(self, net: Net) -> Iterator[None]:
        # Hooks of the tops too: autograd's graph holds them where the garbage collector does not
        # see them, and through them a net that keeps the graph would hold itself.
        handles: list[RemovableHandle] = []
        for built in net.layers:
            if built.module is not None:
                enter, leave = self._before(built), self._after(built.name, handles)
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
        last = built.layer is not None and not built.layer.can_be_restored

        def enter(module: Any, bottoms: Any) -> None:
            self._mark(text)
            self._to_the_end = self._to_the_end or last

        return enter

    def _after(self, name: str, handles: list[RemovableHandle]) -> Callable[..., None]:
        text = f"backward, layer {name!r}"

        def mark(gradient: torch.Tensor) -> None:
            self._mark(text)

        def leave(module: Any, bottoms: Any, tops: Any) -> None:
            for top in (tops,) if isinstance(tops, torch.Tensor) else tops or ():
                if top.requires_grad and not top.is_leaf:
                    handles.append(top.register_hook(mark))

        return leave

    def _mark(self, text: str) -> None:
        self.activity.layer = text
        if self.stop_requested() and not self._to_the_end:
            raise StopRequested


def _never() -> bool:
    return False
