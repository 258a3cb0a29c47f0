"""On a CUDA device: the recorded cases, the same dropout, full precision by default."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffecompat.layers._counter_rng import Noise
from caffecompat.net.analysis.replay import replay
from tests.net.nets import CLASSIFIER, net
from tests.recorded.cases import KINDS
from tests.recorded.exceptions import assert_agrees
from tests.recorded.location import RecordedCases
from tests.recorded.tally import Tally
from tests.recorded.tolerances import too_far

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
]


def test_recorded_cases(recorded: RecordedCases, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    for case in KINDS["layers"](recorded):
        monkeypatch.chdir(case.path.parents[1])
        with tally.case(case.name):
            assert_agrees(case.name, [d for d in replay(case.path, device="cuda") if too_far(d)])
    tally.close()


def test_noise_is_that_of_the_cpu() -> None:
    bits = {}
    for device in ("cpu", "cuda"):
        noise = Noise(3, "drop6", torch.full((), 5, device=device, dtype=torch.int64))
        bits[device] = noise.bits(torch.empty(7, 33, device=device)).cpu()
    assert torch.equal(bits["cpu"], bits["cuda"])


def test_training_follows_the_cpu() -> None:
    rng = np.random.default_rng(1)
    inputs = {
        "data": rng.standard_normal((3, 2, 7, 5)).astype(np.float32),
        "label": np.array([1, 5, 0], np.float32),
    }
    losses: dict[str, list[float]] = {}
    for device in ("cpu", "cuda"):
        small = net(CLASSIFIER, phase="train", device=device, seed=9)
        optimiser = torch.optim.SGD(small.parameters(), lr=0.1, momentum=0.9)
        losses[device] = []
        for _ in range(10):
            optimiser.zero_grad()
            loss = torch.as_tensor(small.forward(**inputs)["loss"])
            small.backward()
            optimiser.step()
            losses[device].append(float(loss))
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-4)


def test_full_precision_is_the_default() -> None:
    net(CLASSIFIER, device="cuda")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="there is no GPU 99"):
        net(CLASSIFIER, device="cuda:99")
