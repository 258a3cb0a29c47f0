"""Threads that each run whole sequences of operators."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from caffecompat.inference.torch_graph import single_threads, winograd
from caffecompat.inference.torch_graph.single_threads import SingleThreads
from tests.inference.engine_nets import LAYERS, assert_near, built, outputs


@pytest.fixture
def two_threads() -> Iterator[None]:
    if not single_threads._sets_threads_of_each_thread():
        pytest.skip("this torch has no OpenMP")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_each_item_is_computed_once_in_one_thread() -> None:
    threads = SingleThreads()
    found: dict[int, tuple[int, bool, bool]] = {}
    together = threading.Barrier(2)

    def work(item: int) -> None:
        if item < 2:
            together.wait()  # so that both threads have one
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found[item] = (torch.get_num_threads(), *modes)

    threads.for_each(work, range(5))
    assert found == dict.fromkeys(range(5), (1, False, False))
    with torch.inference_mode():
        threads.for_each(work, range(5))
    assert found == dict.fromkeys(range(5), (1, False, True))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    threads.for_each(lambda item: found.update({item: (0, True, True)}), [7])
    assert found[7] == (0, True, True)


@pytest.mark.usefixtures("two_threads")
def test_the_error_of_an_item_is_raised() -> None:
    def work(item: int) -> None:
        if item == 3:
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        SingleThreads().for_each(work, range(5))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("inference", [False, True])
def test_winograds_tiles_in_two_threads(inference: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "LEAST_TILES", 0)
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 0)
    monkeypatch.setattr(winograd, "TILES_AT_A_TIME", 1)
    subject = built(LAYERS["residual"])
    wanted = outputs(subject)
    made = subject.optimize("torch")
    assert "Winograd" in str(made)
    with torch.inference_mode(inference):
        assert_near(outputs(subject), wanted, 1e-5)


def test_the_memory_of_a_thread_stays_and_grows() -> None:
    memory = SingleThreads()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            first = memory.buffers(2, 10)
            again = memory.buffers(2, 8)
            larger = memory.buffers(2, 20)
    finally:
        torch.set_default_dtype(torch.float32)
    assert [one.data_ptr() for one in first] == [one.data_ptr() for one in again]
    assert [(one.dtype, len(one)) for one in larger] == [(torch.float32, 20)] * 2
    larger[0].fill_(1)  # outside of inference mode too
    elsewhere: list[list[torch.Tensor]] = []
    other = threading.Thread(target=lambda: elsewhere.append(memory.buffers(2, 20)))
    other.start()
    other.join()
    assert elsewhere[-1][0].data_ptr() != larger[0].data_ptr()
