"""What passes exchange with the host, tried on a device that is no GPU."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict

import pytest
import torch

from caffecompat.layers import Layer, catalogue
from tests.layers.test_contract import DYNAMIC
from tests.places import REPOSITORY


@pytest.mark.skipif(
    not hasattr(getattr(torch._C, "_acc", None), "DeviceGuard"),
    reason="this torch has no devices that are written in Python",
)
def test_passes_stay_on_the_device() -> None:
    """Else torch waits for the device in each pass, and a CUDA graph cannot hold it.

    The types that do are those that say so, for which no capture is tried.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "tests.layers.other_device"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    found = defaultdict(set)
    for line in ended.stdout.splitlines():
        name, what = line.split("\t")
        found[name].add(what)
    stay = {
        name: what
        for name, what in found.items()
        if not catalogue.find(name).uses_host and catalogue.find(name).infer is Layer.infer
    }
    assert not stay
    # The program sees something.
    assert set(found) >= DYNAMIC | {"Convolution (ORN)"}
