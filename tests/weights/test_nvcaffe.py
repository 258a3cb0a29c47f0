"""NVCaffe's layouts: raw bytes of any type, and BatchNorm with scale and bias inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import FormatError, WeightsError
from caffecompat.weights import (
    LayerWeights,
    Weights,
    load_weights,
    save_weights,
    to_bvlc_batch_norm,
)
from caffecompat.weights.encodings import wire

VALUES = np.array([[1.5, -2, 0.25], [65504, 0, -0.125]])
RAW_TYPES = {0: "<f8", 1: "<f4", 2: "<f2", 3: "<i4"}


def raw_blob(kind: int, array: np.ndarray, diff: np.ndarray | None = None) -> bytes:
    dims = [wire.varint(extent) for extent in array.shape]
    parts = wire.delimited(7, wire.delimited(1, dims))
    parts += wire.number_field(10, kind) + wire.delimited(12, [array.tobytes()])
    if diff is not None:
        parts += wire.number_field(11, kind) + wire.delimited(13, [diff.tobytes()])
    return b"".join(parts)


def saved(path: Path, *blobs: bytes, kind: str = "InnerProduct") -> Path:
    layer = wire.text_field(1, "fc") + wire.text_field(2, kind)
    for blob in blobs:
        layer += wire.delimited(7, [blob])
    path.write_bytes(b"".join(wire.delimited(100, layer)))
    return path


@pytest.mark.parametrize("kind", RAW_TYPES)
def test_raw_values(kind: int, tmp_path: Path) -> None:
    array = VALUES.astype(RAW_TYPES[kind])
    path = saved(tmp_path / "x.caffemodel", raw_blob(kind, array, array[::-1]))
    weights = load_weights(path)
    layer = weights["fc"]
    assert weights.dialect == "NVCaffe"
    assert layer.stored == [array.dtype.name]
    assert layer.blobs[0].dtype == np.float32
    np.testing.assert_array_equal(layer.blobs[0], array.astype(np.float32))
    assert layer.diffs is not None
    np.testing.assert_array_equal(layer.diffs[0], array[::-1].astype(np.float32))


def test_plain_floats_go_before_raw_bytes(tmp_path: Path) -> None:
    both = raw_blob(2, VALUES.astype("<f2")) + b"".join(
        wire.packed_floats(5, np.arange(6, dtype=np.float32))
    )
    layer = load_weights(saved(tmp_path / "x.caffemodel", both))["fc"]
    np.testing.assert_array_equal(layer.blobs[0], [[0, 1, 2], [3, 4, 5]])
    assert layer.stored == ["float32"]


def test_another_forks_use_of_these_numbers_does_not_matter(tmp_path: Path) -> None:
    """10 is a message and 12 bytes in a fork that has no type beside them."""
    dims = b"".join(wire.delimited(7, wire.delimited(1, [wire.varint(2)])))
    values = b"".join(wire.packed_floats(5, np.array([1, 2], np.float32)))
    others = b"".join(wire.delimited(10, [b"\x0a\x01\x01"]) + wire.delimited(12, [b"abc"]))
    weights = load_weights(saved(tmp_path / "x.caffemodel", dims + values + others))
    np.testing.assert_array_equal(weights["fc"].blobs[0], [1, 2])
    assert weights.dialect == ""


def test_too_few_raw_bytes(tmp_path: Path) -> None:
    short = raw_blob(2, VALUES.astype("<f2"))[:-3]
    with pytest.raises(FormatError):
        load_weights(saved(tmp_path / "x.caffemodel", short))


def batch_norm(name: str = "bn") -> LayerWeights:
    blobs = [np.arange(1, 4), np.arange(4, 7), [7], np.arange(7, 10), np.arange(10, 13)]
    return LayerWeights(
        name,
        "BatchNorm",
        [np.array(blob, np.float32) for blob in blobs],
        bottoms=["conv"],
        tops=["out"],
        phase=0,
    )


def test_five_blobs_become_two_layers(tmp_path: Path) -> None:
    save_weights(Weights([batch_norm()], "net"), tmp_path / "nv.caffemodel")
    weights = load_weights(tmp_path / "nv.caffemodel")
    assert weights.dialect == "NVCaffe"
    split = to_bvlc_batch_norm(weights)
    assert [(layer.name, layer.type) for layer in split.layers] == [
        ("bn", "BatchNorm"),
        ("bn_scale", "Scale"),
    ]
    np.testing.assert_array_equal(np.concatenate(split["bn"].blobs), [1, 2, 3, 4, 5, 6, 1])
    np.testing.assert_array_equal(np.stack(split["bn_scale"].blobs), [[7, 8, 9], [10, 11, 12]])
    assert (split["bn_scale"].bottoms, split["bn_scale"].tops) == (["out"], ["out"])
    assert split.net_name == "net"


def test_the_split_net_computes_what_the_formula_says() -> None:
    from caffecompat import Net
    from caffecompat.proto.text.parser import parse_text

    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 1 dim: 5 } } }
    layer { name: "bn" type: "BatchNorm" bottom: "x" top: "out" batch_norm_param { eps: 0.25 } }
    layer { name: "bn_scale" type: "Scale" bottom: "out" top: "out"
            scale_param { bias_term: true } }
    """
    net = Net(parse_text(text, "NetParameter")[0])
    nvcaffe = Weights([batch_norm()])
    with pytest.raises(WeightsError, match=r"Five blobs are NVCaffe's.*--bvlc-batch-norm"):
        net.load_weights(nvcaffe)
    net.load_weights(to_bvlc_batch_norm(nvcaffe))
    x = np.random.default_rng(0).standard_normal((2, 3, 1, 5)).astype(np.float32)
    mean, variance, _, scale, bias = (
        blob.reshape(-1, 1, 1) if blob.size > 1 else blob for blob in batch_norm().blobs
    )
    expected = (x - mean) / np.sqrt(variance + 0.25) * scale + bias
    np.testing.assert_allclose(net.forward(x=x)["out"], expected, rtol=1e-5)


def test_a_lost_factor_is_put_back_and_an_untrained_layer_left_alone() -> None:
    statistics = [np.ones(3, np.float32), np.ones(3, np.float32)]
    lost = LayerWeights("a", "BatchNorm", [*statistics, np.zeros(1, np.float32)])
    untrained = LayerWeights("b", "BatchNorm", [np.zeros(3), np.zeros(3), np.zeros(1)])
    trained = LayerWeights("c", "BatchNorm", [*statistics, np.array([999.98], np.float32)])
    result = to_bvlc_batch_norm(Weights([lost, untrained, trained]))
    assert [float(layer.blobs[2][0]) for layer in result.layers] == pytest.approx([1, 0, 999.98])


def test_other_layouts_and_taken_names_are_refused() -> None:
    old = batch_norm()
    old.blobs[2] = np.ones(3, np.float32)
    with pytest.raises(WeightsError, match="have 3, 3, 3, 3, 3 values; NVCaffe's layout is"):
        to_bvlc_batch_norm(Weights([old]))
    with pytest.raises(WeightsError, match="'bn_scale', which already exists"):
        to_bvlc_batch_norm(Weights([batch_norm(), LayerWeights("bn_scale", "Scale")]))
