"""NCCL: pycaffe's training on several GPUs, which has a counterpart outside of pycaffe."""

from __future__ import annotations

from typing import Any

from caffecompat.pycaffe.errors import CallError

_REMEDY = (
    "caffe.NCCL is not provided: 'caffecompat train --solver solver.prototxt --gpu 0,1' trains on "
    "several GPUs, and so does caffecompat.Solver(..., process_group=join_ranks()) in scripts that "
    "torchrun starts"
)


class NCCL:
    """Refuses to be made, with a sentence that names the counterpart."""

    def __init__(self, *_: Any) -> None:
        raise CallError(_REMEDY)

    @staticmethod
    def new_uid() -> bytes:
        """Refuses, too."""
        raise CallError(_REMEDY)


def has_nccl() -> bool:
    """Whether :class:`NCCL` can be used: no."""
    return False
