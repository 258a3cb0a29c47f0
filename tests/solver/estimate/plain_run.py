"""A training whose memory is forecast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from caffecompat.net import Net
from caffecompat.solver.estimate.memory import footprint
from tests.solver.small import NET, write_training

PLAIN_NET = NET.replace('layer {{ name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" }}', "")


PLAIN_NET = PLAIN_NET.replace('"norm"', '"conv"')


def write_plain(folder: Path, more: str = "random_seed: 7", batch: int = 6) -> Path:
    """The small training without batch normalisation, with crops, flips and dropout."""
    path = write_training(folder, more)
    text = PLAIN_NET.format(folder=folder).replace("batch_size: 3", f"batch_size: {batch}")
    (folder / "net.prototxt").write_text(text)
    return path


def little_memory(monkeypatch: pytest.MonkeyPatch, share: float) -> Callable[[Path], None]:
    """Lets the machine have a share of what the training of a solver needs."""

    def shrink(path: Path) -> None:
        net = Net(path.with_name("net.prototxt"), phase="train", shapes_only=True)
        need = footprint(net, history_slots=1, scratch=False)
        free = int((need.fixed + share * need.activations) / 0.95) + 1
        monkeypatch.setattr(
            "caffecompat.solver.estimate.auto_iter_size.available", lambda device: free
        )

    return shrink
