"""Published nets: shapes and outputs as BVLC Caffe 1.0 gives them, on weights made by a rule."""

from __future__ import annotations

import json
import os
import zlib
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat import Net, read_net
from caffecompat.errors import TextError
from caffecompat.layers import catalogue

ZOO = Path(__file__).resolve().parents[3] / "shared" / "zoo"

# Nets above this many multiply-adds (10^9) run only where CAFFECOMPAT_ZOO=all is set.
QUICK_GMAC = 1.0

# Nets whose recorded outputs carry more rounding of BVLC's own than the general bound allows.
LOOSER = {
    # Computed in float64 the outputs are 1e-5 (of the largest) from ours and 6e-4 from BVLC's.
    "SE-BN-Inception": 1e-3,
}


def recorded(suffix: str) -> list[Path]:
    return sorted(ZOO.glob(f"*/*{suffix}"))


def prototxt_of(record: Path, suffix: str) -> Path:
    return record.with_name(record.name.removesuffix(suffix) + ".prototxt")


def readable(path: Path) -> Any:
    try:
        message = read_net(path)
    except TextError:
        pytest.skip("fields of forks come with the dialects")
    missing = sorted({t for layer in message.layer if (t := layer.type) not in catalogue})
    if missing:
        pytest.skip(f"layer types that come later: {', '.join(missing)}")
    return message


@pytest.mark.parametrize("record", recorded(".shapes.json"), ids=lambda p: p.name[:-12])
def test_shapes(record: Path) -> None:
    expected = json.loads(record.read_text())
    message = readable(prototxt_of(record, ".shapes.json"))
    net = Net(message, shapes_only=True)
    built = [b for b in net.layers if not b.node.automatic]
    assert [[b.name, b.type] for b in built] == [layer[:2] for layer in layers_of(expected)]
    for b, layer in zip(built, layers_of(expected), strict=True):
        specs = b.module.layer.specs if b.module else []
        assert [list(spec.shape) for spec in specs] == layer[2], b.name
    for name, shape in expected["blobs"].items():
        assert list(net.blobs[name].shape) == shape, name
    assert net.outputs == sorted(expected["outputs"])


def layers_of(expected: dict[str, Any]) -> list[list[Any]]:
    return [
        list(layer.values()) if isinstance(layer, dict) else layer for layer in expected["layers"]
    ]


def generator(text: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(text.encode()) & 0x7FFFFFFF)


def weight(layer: str, kind: str, i: int, shape: tuple[int, ...], scale: float) -> np.ndarray:
    normal = generator(f"{layer}/{i}").standard_normal(shape).astype("float32")
    if kind == "BatchNorm":
        made = (0.1 * normal, 1 + 0.1 * np.abs(normal), np.ones_like(normal))[i]
    elif kind == "Scale":
        made = 1 + 0.1 * normal if i == 0 else 0.1 * normal
    elif len(shape) >= 2:
        made = normal * np.float32(sqrt(2 / prod(shape[1:])) * scale)
    else:
        made = normal * np.float32(0.1)
    return np.asarray(made, np.float32)


def fill_weights(net: Net, scale: float) -> None:
    for built in net.layers:
        blobs = built.module.blobs() if built.module else []
        for i, blob in enumerate(blobs):
            assert built.module is not None
            shape = built.module.layer.specs[i].shape
            value = torch.from_numpy(weight(built.name, built.type, i, shape, scale))
            with torch.no_grad():
                blob.view(shape).copy_(value)


def input_value(name: str, facts: dict[str, Any]) -> np.ndarray:
    shape = facts["shape"]
    if "values" in facts:
        return np.array(facts["values"], np.float32).reshape(shape)
    image = len(shape) == 4 and shape[1] == 3
    value = generator(f"input/{name}").standard_normal(shape).astype("float32")
    return value * np.float32(50 if image else 1)


@pytest.mark.parametrize("record", recorded(".golden.json"), ids=lambda p: p.name[:-12])
def test_outputs(record: Path) -> None:
    expected = json.loads(record.read_text())
    if not expected["oracle"].startswith("BVLC Caffe 1.0 (CPU)"):
        pytest.skip("fork layers come with their own issue")
    if "equivalent rewrite" in expected["oracle"]:
        pytest.skip("needs the forks' fields")
    if expected["gmac"] > QUICK_GMAC and os.environ.get("CAFFECOMPAT_ZOO") != "all":
        pytest.skip(f"{expected['gmac']:.1f} GMAC; runs with CAFFECOMPAT_ZOO=all")
    message = readable(prototxt_of(record, ".golden.json"))
    net = Net(message)
    fill_weights(net, expected.get("weight_scale", 1.0))
    inputs = {name: input_value(name, facts) for name, facts in expected["inputs"].items()}
    with torch.no_grad():
        net.forward(**inputs)
    arrays = np.load(record.with_suffix(".npz"))
    for name, facts in {**expected["outputs"], **expected.get("extra", {})}.items():
        bound = LOOSER.get(record.name.removesuffix(".golden.json"), 1e-4)
        check(name, net.blobs[name].data.numpy(), facts, arrays, bound)


def check(name: str, found: np.ndarray, facts: dict[str, Any], arrays: Any, bound: float) -> None:
    assert list(found.shape) == facts["shape"], name
    flat = found.ravel()
    if not facts["full"]:
        flat = flat[(np.arange(4096) * (flat.size - 1)) // 4095]
    wanted = arrays[facts["npz"]] if "npz" in facts else arrays[facts["key"]]
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(flat, wanted, rtol=0, atol=bound * scale, err_msg=name)
