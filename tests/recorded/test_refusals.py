"""Nets that BVLC Caffe 1.0 refuses are refused here too, in a sentence that names the layer.

Exceptions are limits of its implementation that ours does not have.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from caffecompat import Net, read_net
from caffecompat.errors import CaffeError
from caffecompat.layers import catalogue
from caffecompat.net.analysis.replay import read_case
from tests.recorded.test_layers import LAYERS

ERRORS = LAYERS / "errors"

# What Caffe refuses for reasons of its implementation and we take; docs/deviations.md has them all.
TAKEN = (
    "engine_cudnn",
    "force_backward_accuracy",
    "force_backward_embed",
    "force_backward_infogain_matrix",
    "infogain_two_tops_default_weight",
    "pool_stochastic_cpu",
    "prelu_5d",
    "softmaxloss_two_tops",
)


def facts(path: Path) -> dict[str, str]:
    lines = path.with_suffix(".txt").read_text().splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("path", sorted(ERRORS.glob("*.prototxt")), ids=lambda p: p.stem)
def test_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(LAYERS)
    case = facts(path)
    if path.stem in TAKEN:
        assert case["kind"] == "artefact"
        run(path, case)
        return
    refused_by_reader = path.stem in ("unknown_field", "bad_enum", "clip_missing_required")
    if not refused_by_reader and path.stem != "unknown_layer_type":
        missing = sorted({layer.type for layer in read_net(path).layer} - set(catalogue))
        if missing:
            pytest.skip(f"layer types that come later: {', '.join(missing)}")
    with pytest.raises(CaffeError) as caught:
        run(path, case)
    sentence = str(caught.value)
    assert len(sentence.splitlines()) == 1, sentence
    assert path.name in sentence, sentence
    assert "Traceback" not in sentence


def run(path: Path, case: dict[str, str]) -> None:
    net = Net(os.fspath(path), phase=case["phase"], strict=True)
    recorded = path.with_suffix(".npz")
    values = read_case(recorded) if recorded.exists() else {}
    net.forward(**{key[3:]: value for key, value in values.items() if key[:3] == "in/"})
    if case["stage"] == "backward":
        net.backward()
