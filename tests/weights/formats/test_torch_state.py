"""torch state dicts: what torch sees, what is read of those of others, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat.errors import FormatError, WeightsError
from caffecompat.weights import Naming, Weights, load_weights, save_weights
from tests.weights.naming import NAMING


def test_what_torch_sees(weights: Weights, tmp_path: Path) -> None:
    save_weights(weights, tmp_path / "x.pt", naming=NAMING)
    state = torch.load(tmp_path / "x.pt", weights_only=True)
    assert list(state)[:3] == ["conv%2E1.weight", "conv%2E1.bias", "bn.weight"]
    module = torch.nn.Module()
    norm = module.bn = torch.nn.Module()
    for name, size in (("weight", 4), ("bias", 4), ("third", 1)):
        norm.register_parameter(name, torch.nn.Parameter(torch.zeros(size)))
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert missing == []
    assert "conv%2E1.weight" in unexpected
    assert norm.get_parameter("third").item() == 1


def test_types_and_layers_without_parameters_survive(weights: Weights, tmp_path: Path) -> None:
    save_weights(weights, tmp_path / "x.pt", naming=NAMING)
    back = load_weights(tmp_path / "x.pt")
    assert back.net_name == "net"
    assert [(layer.name, layer.type) for layer in back.layers] == [
        (layer.name, layer.type) for layer in weights.layers
    ]


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dict_of_somebody_else(zipped: bool, tmp_path: Path) -> None:
    state = {
        "features%2E0.weight": torch.arange(6.0).reshape(2, 3).bfloat16(),
        "features%2E0.bias": torch.tensor([1.0, 2.0], dtype=torch.float64),
        "bn.count": torch.tensor(7),
    }
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    back = load_weights(tmp_path / "x.pth", naming=NAMING)
    assert list(back) == ["features.0", "bn"]
    np.testing.assert_array_equal(back["features.0"].blobs[0], [[0, 1, 2], [3, 4, 5]])
    assert back["bn"].blobs[0] == 7
    assert back["features.0"].legacy == [False, False]


def test_names_are_needed_and_must_be_right(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(WeightsError, match="a state dict needs names"):
        save_weights(weights, path)
    with pytest.raises(WeightsError, match=r"'conv.1' \(Convolution\) has 2 blobs, but 1 names"):
        save_weights(weights, path, naming=Naming(lambda layer: ["one"]))
    same = Naming(lambda layer: [f"x.{index}" for index in range(len(layer.blobs))])
    with pytest.raises(WeightsError, match=r"'bn'.*another array has the name 'x.0'"):
        save_weights(weights, path, naming=same)
    assert list(tmp_path.iterdir()) == []


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2), "extra": Path("x")}, tmp_path / "x.pt")
    with pytest.raises(FormatError, match=r"holds more than tensors.*torch.save\(model"):
        load_weights(tmp_path / "x.pt")


def test_other_contents(tmp_path: Path) -> None:
    for content, sentence in (
        (
            {"state_dict": {"a": torch.ones(2)}},
            "is a checkpoint, whose entry 'state_dict' holds a state dict",
        ),
        ([1, 2], "holds a list"),
        ({"a": torch.ones(2).to_sparse()}, "entry 'a'.*sparse"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "complex64"),
        ({"a": torch.ones(1).expand(10**12)}, "claims 4000000000000 bytes, but the file has 4"),
    ):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(FormatError, match=sentence):
            load_weights(tmp_path / "x.pt")


def test_a_table_of_layers_that_is_damaged(tmp_path: Path) -> None:
    for table in ("{", "[]", '{"net": "n", "layers": [1]}', '{"layers": []}'):
        state = torch.nn.Linear(2, 3).state_dict()
        state._metadata[""]["caffecompat"] = table  # type: ignore[attr-defined]
        torch.save(state, tmp_path / "x.pt")
        with pytest.raises(FormatError, match="table of layers is damaged"):
            load_weights(tmp_path / "x.pt")
