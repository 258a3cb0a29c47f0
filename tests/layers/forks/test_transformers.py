"""Layer types of transformers, against loops over their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat import Net
from caffecompat.data.shard import Shard
from caffecompat.errors import DataError, LayerError
from caffecompat.layers import BuildOptions, Context, Source, catalogue
from tests.layers.messages import distinct, made, message, run

ATTENTION = "causal_self_attention_param {{ heads: {} embed: {} block_size: 8 {} }}"
BLOCK = "transformer_block_param {{ heads: {} embed: {} block_size: 8 layers: 2 {} }}"
NO_DROPS = "attn_dropout: 0 resid_dropout: 0"


def attended(x: np.ndarray, blobs: list[np.ndarray], heads: int) -> np.ndarray:
    """Attention of each position to those up to itself, one head after the other."""
    rows, steps, size = x.shape
    each = size // heads
    y = np.zeros_like(x)
    for row in range(rows):
        joint = x[row] @ blobs[0].T + blobs[1]
        query, key, value = joint[:, :size], joint[:, size : 2 * size], joint[:, 2 * size :]
        for head in range(heads):
            own = slice(head * each, (head + 1) * each)
            for t in range(steps):
                scores = np.array(
                    [query[t, own] @ key[s, own] / np.sqrt(each) for s in range(t + 1)]
                )
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                y[row, t, own] = sum(weights[s] * value[s, own] for s in range(t + 1))
    return y @ blobs[2].T + blobs[3]


def normalised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-10)


def parameters(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [distinct(shape, seed) for seed, shape in enumerate(shapes, 1)]


def of_attention(size: int) -> list[tuple[int, ...]]:
    return [(3 * size, size), (3 * size,), (size, size), (size,)]


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_causal_self_attention(heads: int) -> None:
    x, given = distinct((2, 4, 6)), parameters(*of_attention(6))
    text = ATTENTION.format(heads, 6, NO_DROPS)
    (y,) = run("CausalSelfAttention", text, x, parameters=given)
    wanted = attended(x.numpy(), [p.numpy() for p in given], heads)
    np.testing.assert_allclose(y, wanted)
    later = x.clone()
    later[:, 3] += 1
    (changed,) = run("CausalSelfAttention", text, later, parameters=given)
    assert torch.equal(changed[:, :3], y[:, :3])
    assert not torch.allclose(changed[:, 3], y[:, 3])


@pytest.mark.parametrize("activation", ["RELU", "GELU_BERT"])
def test_transformer_block(activation: str) -> None:
    x = distinct((2, 3, 4))
    given = parameters(*of_attention(4), (16, 4), (16,), (4, 16), (4,))
    text = BLOCK.format(2, 4, f"{NO_DROPS} activation: {activation}")
    (y,) = run("TransformerBlock", text, x, parameters=given)
    blobs = [p.numpy() for p in given]
    between = x.numpy() + attended(normalised(x.numpy()), blobs[:4], 2)
    wide = normalised(between) @ blobs[4].T + blobs[5]
    inner = np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)
    wide = np.maximum(wide, 0) if activation == "RELU" else wide / 2 * (1 + np.tanh(inner))
    np.testing.assert_allclose(y, between + wide @ blobs[6].T + blobs[7])


def test_values_are_dropped_in_training_only() -> None:
    x, given = torch.ones(1, 1, 4, dtype=torch.float64), parameters(*of_attention(4))
    text = ATTENTION.format(1, 4, "attn_dropout: 0 resid_dropout: 0.5")
    (kept,) = run("CausalSelfAttention", text, x, parameters=given, phase="TEST")
    (dropped,) = run("CausalSelfAttention", text, x, parameters=given)
    factors = {round(float(f), 6) for f in (dropped / kept).flatten()}
    assert factors <= {0.0, 2.0}
    many = distinct((20, 8, 4))
    (a,) = run("CausalSelfAttention", text, many, parameters=given)
    (b,) = run("CausalSelfAttention", text, many, parameters=given, phase="TEST")
    assert 0.4 < float((a == 0).double().mean()) < 0.6
    assert torch.allclose(a[a != 0], 2 * b[a != 0])


def test_one_value_is_dropped_apart_from_another() -> None:
    """Attention, its projection and the last projection draw bits of their own."""
    layer = made("TransformerBlock", BLOCK.format(2, 4, "attn_dropout: 0.5"), (3, 4, 4))
    x = torch.zeros(3, 4, 4)
    weights, first, second = layer.drops(x, 2)  # type: ignore[attr-defined]
    shapes = [(3, 2, 4, 4), (3, 4, 4), (3, 4, 4)]
    masks = [
        (drop(torch.ones(shape)) > 0).flatten()
        for drop, shape in zip((weights, first, second), shapes, strict=True)
    ]
    assert 0.2 < masks[0].float().mean() < 0.8
    assert not torch.equal(masks[1], masks[2])


def test_initial_values() -> None:
    specs = made("TransformerBlock", BLOCK.format(2, 8, ""), (1, 3, 8)).specs
    shapes = [(24, 8), (24,), (8, 8), (8,), (32, 8), (32,), (8, 32), (8,)]
    assert [spec.shape for spec in specs] == shapes
    deviations = [spec.filler.std for spec in specs if "weight" in spec.name]
    np.testing.assert_allclose(deviations, [0.02, 0.01, 0.02, 0.01])


@pytest.mark.parametrize(
    ("type_name", "text", "bottom", "sentence"),
    [
        ("CausalSelfAttention", ATTENTION.format(4, 6, ""), (1, 2, 6), "a multiple of heads, 4"),
        ("CausalSelfAttention", ATTENTION.format(2, 6, ""), (1, 9, 6), r"at most 8 \(block_size\)"),
        ("CausalSelfAttention", ATTENTION.format(2, 6, ""), (1, 2, 4), "expected N x T x 6"),
        ("CausalSelfAttention", ATTENTION.format(0, 6, ""), (1, 2, 6), "heads is 0"),
        ("TransformerBlock", BLOCK.format(2, 6, "attn_dropout: 1"), (1, 2, 6), r"in \[0, 1\)"),
        (
            "TransformerBlock",
            BLOCK.format(2, 6, "block_type: DECODER"),
            (1, 2, 6),
            "DECODER is not",
        ),
    ],
)
def test_refused(type_name: str, text: str, bottom: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        made(type_name, text, bottom)


def test_gelu() -> None:
    x = distinct((40,)) * 4
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    (y,) = run("Gelu", "", x)
    np.testing.assert_allclose(y, x / 2 * (1 + inner.tanh()))
    (other,) = run("Gelu", "gelu_param { enable_bert_version: false }", x)
    np.testing.assert_allclose(other, x / 2 * (1 + torch.erf(x / 2**0.5)))


def test_layer_norm_of_mycaffe_has_no_parameters() -> None:
    name = "LayerNorm (MyCaffe)"
    x = distinct((2, 3, 4, 5))
    (y,) = run(name, "", x)
    for n in range(2):
        for t in range(3):
            values = x[n, t].numpy()
            np.testing.assert_allclose(y[n, t], (values - values.mean()) / values.std(), rtol=1e-6)
    (y,) = run(name, "layer_norm_param { epsilon: 0.5 }", x[0, 0])
    values = x[0, 0].numpy()
    deviation = np.sqrt(values.var(1, keepdims=True) + 0.5)
    np.testing.assert_allclose(y, (values - values.mean(1, keepdims=True)) / deviation)
    assert not made(name, "", (2, 3, 4)).specs


def test_layer_norm_of_synopsys() -> None:
    x = distinct((2, 3, 4))
    weight, bias = parameters((3, 4), (3, 4))
    (y,) = run("LayerNorm (Synopsys)", "", x, parameters=[weight, bias])
    for n in range(2):
        values = x[n].numpy()
        deviation = np.sqrt(values.var() + 1e-5)
        wanted = (values - values.mean()) / deviation * weight.numpy() + bias.numpy()
        np.testing.assert_allclose(y[n], wanted)
    plain = "layer_norm_param { elementwise_affine: false }"
    assert not made("LayerNorm (Synopsys)", plain, (2, 3, 4)).specs


def test_which_layer_norm_is_meant() -> None:
    for field, fork in (
        ("epsilon: 1e-5", "MyCaffe"),
        ("enable_cuda_impl: true", "MyCaffe"),
        ("eps: 1e-5", "Synopsys"),
        ("elementwise_affine: true", "Synopsys"),
    ):
        layer = message("LayerNorm", f"layer_norm_param {{ {field} }}")
        assert catalogue.choose(layer) is catalogue.find(f"LayerNorm ({fork})")
    with pytest.raises(LayerError, match=r"several forks .*'LayerNorm'.*dialect="):
        catalogue.choose(message("LayerNorm"))
    assert catalogue.choose(message("LayerNorm"), "mycaffe").fork == "MyCaffe"


def test_loss_is_divided_by_the_positions() -> None:
    scores, labels = distinct((2, 3, 5)), torch.tensor([[0, 4, 2], [1, 1, 3]]).double()
    text = "softmax_param { axis: 2 } loss_param { normalization: BATCH_SIZE }"
    (loss,) = run("SoftmaxCrossEntropy2Loss", text, scores, labels)
    wanted = [
        np.log(np.exp(scores[n, t].numpy()).sum()) - float(scores[n, t, int(labels[n, t])])
        for n in range(2)
        for t in range(3)
    ]
    np.testing.assert_allclose(loss, np.mean(wanted))


def test_one_sample_is_added_to_each() -> None:
    text = "eltwise_param { operation: %s allow_single_batch_input: true }"
    a, b = distinct((3, 2, 4)), distinct((1, 2, 4), 1).requires_grad_()
    for operation, wanted in (("SUM", a + b), ("PROD", a * b), ("MAX", torch.maximum(a, b))):
        (y,) = run("Eltwise", text % operation, a, b)
        assert torch.equal(y, wanted)
    (y,) = run("Eltwise", text % "SUM", a, b)
    (slope,) = torch.autograd.grad(y.sum(), b)
    assert torch.equal(slope, torch.full((1, 2, 4), 3.0, dtype=torch.float64))
    with pytest.raises(LayerError, match="must have one sample"):
        run("Eltwise", text % "SUM", a, a)
    with pytest.raises(LayerError, match="for two bottoms, found 3"):
        run("Eltwise", text % "SUM", a, b, b)


TEXT = "a red fox ran.\n" * 4


def tokens(path: Path | str, batch: int = 3, size: int = 5, **options: Any) -> Source:
    given = BuildOptions(**{"seed": 3, **options})
    layer = catalogue.find("TokenizedData")(Context("TRAIN", "layer 'one'", given))
    assert isinstance(layer, Source)
    settings = f'source: "{path}" batch_size: {batch} block_size: {size}'
    layer.setup(message("TokenizedData", f"tokenized_data_param {{ {settings} }}", 3), [])
    return layer


def rows(layer: Source, index: int) -> list[np.ndarray]:
    found = layer.read(index)
    assert found is not None
    return [np.asarray(top) for top in found]


def test_blocks_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text(TEXT)
    layer = tokens(tmp_path / "input.txt")
    assert layer.shapes == [(3, 5), (1, 5), (3, 5)]
    known = sorted(set(TEXT))
    begins = set()
    for index in range(40):
        data, positions, following = rows(layer, index)
        assert positions.tolist() == [[0, 1, 2, 3, 4]]
        for given, after in zip(data, following, strict=True):
            block = "".join(known[int(number)] for number in [*given, after[-1]])
            assert block in TEXT
            assert np.array_equal(given[1:], after[:-1])
            begins.add(block)
        assert all(
            np.array_equal(a, b)
            for a, b in zip(rows(layer, index), (data, positions, following), strict=True)
        )
    assert len(begins) == len("a red fox ran.\n")


def test_ranks_read_their_rows(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text(TEXT)
    whole = rows(tokens(tmp_path / "input.txt"), 7)
    parts = [rows(tokens(tmp_path / "input.txt", shard=Shard(rank, 2)), 7) for rank in range(2)]
    for top in (0, 2):
        assert np.array_equal(np.concatenate([part[top] for part in parts]), whole[top])


def test_texts_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("abcdef")
    with pytest.raises(DataError, match="6 characters are too few for blocks of 5; it needs 7"):
        tokens(tmp_path / "short.txt")
    (tmp_path / "latin.txt").write_bytes(b"abc\xe9" * 9)
    with pytest.raises(DataError, match=r"byte 3 is not UTF-8"):
        tokens(tmp_path / "latin.txt")


NET = r"""
layer { name: "data" type: "TokenizedData" top: "x" top: "pos" top: "tgt"
        tokenized_data_param { input_type: TEXT_FILE source: "$ProgramData$\MyCaffe\test\new.txt"
                               batch_size: 4 block_size: 6 } }
layer { name: "wte" type: "Embed" bottom: "x" top: "e" embed_param {
        num_output: 8 input_dim: 11 bias_term: False weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "wpe" type: "Embed" bottom: "pos" top: "p" embed_param {
        num_output: 8 input_dim: 6 bias_term: False weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "add" type: "Eltwise" bottom: "e" bottom: "p" top: "s"
        eltwise_param { operation: SUM allow_single_batch_input: True } }
layer { name: "block" type: "TransformerBlock" bottom: "s" top: "b"
        transformer_block_param { layers: 1 heads: 2 embed: 8 block_size: 6 } }
layer { name: "norm" type: "LayerNorm" bottom: "b" top: "n" }
layer { name: "ip" type: "InnerProduct" bottom: "n" top: "y"
        inner_product_param { num_output: 11 axis: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxCrossEntropy2Loss" bottom: "y" bottom: "tgt" top: "loss"
        loss_param { normalization: BATCH_SIZE } softmax_param { axis: 2 } }
"""


def test_a_net_learns_the_text(tmp_path: Path) -> None:
    (tmp_path / "gpt.prototxt").write_text(NET)
    unread = Net(tmp_path / "gpt.prototxt", shapes_only=True, dialect="mycaffe")
    assert unread.blobs["y"].shape == (4, 6, 11)
    text = tmp_path / "input.txt"
    text.write_text(TEXT)
    (tmp_path / "gpt.prototxt").write_text(
        NET.replace(r"$ProgramData$\MyCaffe\test\new.txt", str(text))
    )
    net = Net(tmp_path / "gpt.prototxt", phase="train", dialect="mycaffe")
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for index in range(80):
        optimizer.zero_grad()
        loss = net.run(index).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 2
    assert np.mean(losses[-5:]) < 1
