"""The end of a capture, with stand-ins for what needs a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from caffecompat.net.execution.gpu import cuda_graph

POOL = (0, 7)


class Torch:
    """What torch does in a capture, and what it is told.

    Attributes:
        ends: whether the end of a capture works.
        told: the calls to its allocator.
        stream: the current stream.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ends: bool) -> None:
        self.ends, self.ended = ends, False
        self.told: list[tuple[Any, ...]] = []
        self.stream: Any = "default"
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: POOL)
        monkeypatch.setattr(torch.cuda, "graph", self.capture)
        monkeypatch.setattr(torch.cuda, "stream", self.on_stream)
        for name in ("end", "release"):
            long = {"end": "_cuda_endAllocateToPool", "release": "_cuda_releasePool"}[name]
            tell = lambda *given, name=name: self.told.append((name, *given))  # noqa: E731
            monkeypatch.setattr(torch._C, long, tell, raising=False)
        monkeypatch.setattr(cuda_graph, "_FAILED", [])

    @contextmanager
    def capture(self, graph: Any, **given: Any) -> Iterator[None]:
        assert given["pool"] == POOL
        assert given["capture_error_mode"] == "thread_local"
        before, self.stream = self.stream, given["stream"]
        try:
            yield
        finally:
            # As in torch, the stream stays if this fails.
            if not self.ends:
                raise RuntimeError("capture invalidated")
            self.ended, self.stream = True, before

    @contextmanager
    def on_stream(self, stream: Any) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    def pool(self) -> Any:
        if not self.ended:
            raise RuntimeError("without a preceding successful capture")
        return POOL


@pytest.mark.parametrize(
    ("ends", "error", "told"),
    [
        (True, None, []),
        (True, ValueError("no loss"), []),
        (False, ValueError("not permitted"), [("end", 1, POOL), ("release", 1, POOL)]),
    ],
)
def test_what_a_capture_leaves_behind(
    ends: bool, error: Exception | None, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Torch(monkeypatch, ends)
    graph: Any = SimpleNamespace(pool=fake.pool)
    stream: Any = SimpleNamespace(device=torch.device("cuda", 1))
    caught: BaseException | None = None
    try:
        with cuda_graph._capture(graph, stream):
            assert fake.stream is stream
            if error is not None:
                raise error
    except (RuntimeError, ValueError) as found:
        caught = found
    assert fake.stream == "default"
    assert fake.told == told
    assert len(cuda_graph._FAILED) == bool(told)
    assert caught is error or (caught is not None and caught.__context__ is error)


def test_an_allocator_that_was_not_in_the_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the capture could not begin; the error is that of the beginning."""
    fake = Torch(monkeypatch, ends=True)

    def refuse(*given: Any, **more: Any) -> Any:
        raise RuntimeError("another capture is under way")

    def refused(*given: Any) -> None:
        raise RuntimeError("not currently recording")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(torch._C, name, refused, raising=False)
    graph: Any = SimpleNamespace(pool=fake.pool)
    stream: Any = SimpleNamespace(device=torch.device("cuda", 0))
    with (
        pytest.raises(RuntimeError, match="another capture"),
        cuda_graph._capture(graph, stream),
    ):
        pass
    assert fake.stream == "default"


def test_torch_has_what_a_failed_capture_needs() -> None:
    """On a CPU as names that refuse to be called."""
    import torch.cuda.memory as memory

    assert callable(memory._cuda_endAllocateToPool)
    assert callable(memory._cuda_releasePool)
    assert torch._C._cuda_endAllocateToPool is memory._cuda_endAllocateToPool
