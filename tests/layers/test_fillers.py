"""Fillers: their statistics as BVLC Caffe 1.0 has them, exact values where nothing is random."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import CaffeError, LayerError, UnknownName
from caffecompat.layers.fillers import check_filler, fill, fillers
from caffecompat.layers.fillers.base import Request
from caffecompat.proto.text.parser import parse_text
from tests.recorded.tally import Tally


def filled(text: str, *shape: int, seed: int = 3) -> Tensor:
    message, _ = parse_text(text, "FillerParameter")
    return fill(message, shape, torch.Generator().manual_seed(seed), "layer 'one': weight")


def statistics(values: Tensor) -> dict[str, float]:
    rows = values.double().flatten(1).sum(1) if values.dim() > 1 else values.double()
    return {
        "mean": values.double().mean().item(),
        "std": values.double().std(unbiased=False).item(),
        "min": values.min().item(),
        "max": values.max().item(),
        "zeros": (values == 0).double().mean().item(),
        "rowsum_min": rows.min().item(),
        "rowsum_max": rows.max().item(),
    }


def check(values: Tensor, expected: dict[str, Any], bounded: bool) -> None:
    """Compares with a record of another random draw, as far as its size allows."""
    found = statistics(values)
    error = 6 * max(expected["std"], 1e-9) / sqrt(values.numel())
    assert found["mean"] == pytest.approx(expected["mean"], abs=2 * error)
    assert found["std"] == pytest.approx(expected["std"], rel=0.02, abs=1e-9)
    assert found["zeros"] == pytest.approx(expected["zeros"], abs=0.01)
    if bounded:
        for key in ("min", "max"):
            assert found[key] == pytest.approx(expected[key], abs=0.01 * expected["std"] + 1e-6)


def test_recorded_statistics(golden: Path) -> None:
    records = json.loads((golden / "data/fillers/stats.json").read_text())["fillers"]
    tally = Tally()
    for record in records:
        with tally.case((record["filler"], record["shape"])):
            if not record["works"]:
                with pytest.raises(CaffeError):
                    filled(record["filler"], *record["shape"])
                continue
            values = filled(record["filler"], *record["shape"])
            bounded = any(name in record["filler"] for name in ("xavier", "uniform"))
            check(values, record["stats"], bounded)
            if "unitball" in record["filler"]:
                assert statistics(values)["rowsum_max"] == pytest.approx(1, abs=1e-4)
    tally.close()


@pytest.mark.parametrize(
    ("text", "fan"),
    [
        ("type: 'xavier'", 150),
        ("type: 'xavier' variance_norm: FAN_OUT", 600),
        ("type: 'msra' variance_norm: AVERAGE", 375),
    ],
)
def test_variance_follows_the_fan(text: str, fan: int) -> None:
    values = filled(text, 200, 50, 3)
    expected = (2 if "msra" in text else 1) / fan
    assert values.double().var().item() == pytest.approx(expected, rel=0.05)


def test_fan_of_one_axis() -> None:
    message, _ = parse_text("type: 'xavier' variance_norm: AVERAGE", "FillerParameter")
    request = Request(message, (90,), torch.Generator(), "")
    assert request.fan == (1 + 90) / 2


def test_sparse_gaussian_keeps_its_share() -> None:
    values = filled("type: 'gaussian' std: 2 sparse: 30", 300, 400)
    kept = values[values != 0]
    assert kept.numel() / values.numel() == pytest.approx(0.1, abs=0.005)
    assert kept.std().item() == pytest.approx(2, rel=0.03)
    assert not filled("type: 'gaussian' sparse: 0", 5, 7).any()


def test_rows_of_positive_unitball_sum_to_one() -> None:
    values = filled("type: 'positive_unitball'", 6, 5, 3)
    assert (values >= 0).all()
    assert torch.allclose(values.flatten(1).sum(1), torch.ones(6))


@pytest.mark.parametrize(
    ("size", "slope"),
    [
        (2, [0.5, 0.5]),
        (3, [0.5, 1, 0.5]),
        (4, [0.25, 0.75, 0.75, 0.25]),
        (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
    ],
)
def test_bilinear(size: int, slope: list[float]) -> None:
    values = filled("type: 'bilinear'", 3, 2, size, size)
    expected = torch.outer(torch.tensor(slope), torch.tensor(slope))
    assert torch.allclose(values, expected.expand(3, 2, size, size), rtol=0, atol=1e-6)


def test_recorded_bilinear(golden: Path) -> None:
    with np.load(golden / "data/fillers/bilinear.npz") as recorded:
        for key in recorded:
            expected = torch.from_numpy(recorded[key])
            assert torch.allclose(
                filled("type: 'bilinear'", *expected.shape), expected, rtol=0, atol=1e-6
            )


WITHOUT_NOISE = {"constant", "bilinear", "diagonal", "identity"}


@pytest.mark.parametrize("name", sorted(fillers))
def test_same_generator_same_values(name: str) -> None:
    shape = (4, 4, 1, 1) if name == "identity" else (3, 2, 4, 4)
    first, again, other = (filled(f"type: '{name}'", *shape, seed=s) for s in (1, 1, 2))
    assert first.dtype == torch.float32
    assert first.device.type == "cpu"
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name in WITHOUT_NOISE)


def test_default_is_zero() -> None:
    assert not filled("", 3, 5).any()
    assert (filled("value: -1.5", 3, 5) == -1.5).all()
    assert filled("value: 2").shape == ()


def test_unknown_filler_is_named_with_its_place() -> None:
    with pytest.raises(UnknownName, match=r"filler 'xaver' in layer 'one': weight.*'xavier'"):
        filled("type: 'xaver'", 3, 5)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("type: 'uniform' min: 2 max: 1", (3, 5), "min 2 is above max 1"),
        ("type: 'uniform' sparse: 3", (3, 5), "sparse is for gaussian only"),
        ("type: 'constant' sparse: 0", (3, 5), "sparse is for gaussian only"),
        ("type: 'gaussian' std: 0", (3, 5), "std is 0"),
        ("type: 'gaussian' sparse: 4", (3, 5), "sparse is 4"),
        ("type: 'gaussian' sparse: -2", (3, 5), "sparse is -2"),
        ("type: 'xavier'", (), "no axes"),
        ("type: 'positive_unitball'", (), "one axis"),
        ("type: 'bilinear'", (3, 2, 4, 5), "square"),
        ("type: 'bilinear'", (3, 4, 4), "4 axes"),
    ],
)
def test_refused(text: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(LayerError, match=words) as caught:
        filled(text, *shape)
    assert str(caught.value).startswith("layer 'one': weight: filler '")


@pytest.mark.parametrize("name", sorted(set(fillers) - {"bilinear"}))
def test_a_check_makes_no_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    message, _ = parse_text(f'type: "{name}"', "FillerParameter")
    monkeypatch.setattr(torch, "empty", None)
    with pytest.raises(TypeError):
        fill(message, (3, 3, 1, 1), torch.Generator())
    check_filler(message, (3, 3, 1, 1))
