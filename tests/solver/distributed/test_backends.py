"""The backends of ranks, and the places of gradients in their buckets."""

from __future__ import annotations

import pytest
import torch

from caffecompat.errors import SolverError
from caffecompat.solver.distributed.gradient_buckets import _bucket
from caffecompat.solver.distributed.process_group import _backends, join_ranks


@pytest.mark.parametrize(
    ("device", "wanted", "found"),
    [
        ("cpu", None, "gloo"),
        ("cuda", None, "cpu:gloo,cuda:nccl"),
        ("cuda", "gloo", "cpu:gloo,cuda:gloo"),
    ],
)
def test_the_backend(device: str, wanted: str | None, found: str) -> None:
    assert _backends(torch.device(device), wanted) == found


@pytest.mark.parametrize(
    ("backend", "words"), [("nccl", "works between GPUs"), ("mpi", "must be 'gloo' or 'nccl'")]
)
def test_a_backend_that_does_not_fit(backend: str, words: str) -> None:
    with pytest.raises(SolverError, match=words), join_ranks("cpu", backend=backend):
        pass


def test_gradients_are_aligned() -> None:
    sizes = (3, 64, 65, 1)
    bucket = _bucket([torch.ones(size) for size in sizes])
    starts = [gradient.storage_offset() for _, gradient in bucket.members]
    assert starts == [0, 64, 128, 256]
    assert bucket.flat.numel() == 320
