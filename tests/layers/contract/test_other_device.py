"""What passes exchange with the host, tried on a device that is no GPU."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict

import pytest
import torch

from caffecompat.layers import Layer, catalogue
from tests.layers.contract.other_device import ADDS
from tests.layers.contract.prepared import DYNAMIC
from tests.places import REPOSITORY

# Each of their sums has one term, since no place is named twice.
ONE_TERM = {
    "CTCLoss": "one end of each sequence",
    "CtcLoss": "the same",
    "GeneralTripletLoss": "one label of each row",
    "LabelSpecificAdd": "one label of each row",
    "LargeMarginInnerProduct": "one label of each row",
    "MultinomialLogisticLoss": "one label of each row",
    "WarpCTCLoss": "one end of each sequence",
}


@pytest.mark.skipif(
    not hasattr(getattr(torch._C, "_acc", None), "DeviceGuard"),
    reason="this torch has no devices that are written in Python",
)
def test_passes_on_another_device() -> None:
    """They stay on it, or torch waits in each pass and a CUDA graph cannot hold it.

    The types that do not are those that say so, for which no capture is tried. And no sum depends
    on the order in which threads end.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "tests.layers.contract.other_device"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    exchanged: dict[str, set[str]] = defaultdict(set)
    added: dict[str, set[str]] = defaultdict(set)
    for line in ended.stdout.splitlines():
        name, what = line.split("\t")
        (added if what.startswith(ADDS) else exchanged)[name].add(what)
    stay = {
        name: what
        for name, what in exchanged.items()
        if not catalogue.find(name).uses_host and catalogue.find(name).infer is Layer.infer
    }
    assert not stay
    # The program sees something.
    assert set(exchanged) >= DYNAMIC | {"Convolution (ORN)"}
    assert {name: what for name, what in added.items() if name not in ONE_TERM} == {}
    assert added["MultinomialLogisticLoss"] == {ADDS + "scatter_add.default"}
