"""Fork layers for sequences, against step-by-step and path-by-path computations."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from caffecompat.errors import LayerError
from caffecompat.layers import Source, catalogue
from tests.layers.messages import distinct, made, message, run
from tests.layers.single import build, call

LSTM = "LSTM (xuzhenqi, mini-caffe)"


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_steps(
    x: np.ndarray, cont: np.ndarray, weights: list[np.ndarray], h: np.ndarray, c: np.ndarray
) -> np.ndarray:
    """The hidden values (T, N, H) of inputs (T, N, I) and flags (T, N)."""
    w_x, w_h, b = weights
    size = h.shape[1]
    hidden = np.zeros((*x.shape[:2], size))
    for t, n in np.ndindex(*x.shape[:2]):
        gates = w_x @ x[t, n] + b + (w_h @ h[n] if cont[t, n] else 0)
        i, f, o, g = (gates[k * size : (k + 1) * size] for k in range(4))
        kept = sigmoid(f) * c[n] if cont[t, n] else 0
        c[n] = kept + sigmoid(i) * np.tanh(g)
        h[n] = hidden[t, n] = sigmoid(o) * np.tanh(c[n])
    return hidden


@pytest.mark.parametrize("name", ["Lstm", LSTM])
def test_two_forms_of_the_lstm(name: str) -> None:
    steps, streams, size = 4, 2, 3
    x = distinct((steps, streams, 2))
    weights = [distinct((12, 2), 1), distinct((12, 3), 2), distinct((12,), 3)]
    cont = np.ones((steps, streams))
    cont[0] = 0
    zero = np.zeros((streams, size))
    wanted = by_steps(x.numpy(), cont, [w.numpy() for w in weights], zero.copy(), zero.copy())
    (y,) = run(name, "lstm_param { num_output: 3 }", x, parameters=weights)
    np.testing.assert_allclose(y, wanted)
    flat = "lstm_param { num_output: 3 batch_size: 2 }"
    (y,) = run(name, flat, x.flatten(0, 1), parameters=weights)
    np.testing.assert_allclose(y, wanted.reshape(-1, size))


def test_flags_keep_the_state_of_the_last_pass() -> None:
    x = distinct((6, 1))
    weights = [distinct((8, 1), 1), distinct((8, 2), 2), distinct((8,), 3)]
    flags = np.array([[0, 1, 1, 0, 1, 1], [1, 1, 0, 1, 1, 1]])
    layer = made("Lstm", "lstm_param { num_output: 2 }", (6, 1), (6, 1))
    h, c = np.zeros((1, 2)), np.zeros((1, 2))
    for row in flags:
        given = torch.from_numpy(row).double().reshape(6, 1)
        (y,) = call(layer, (x, given), weights)
        wanted = by_steps(x.numpy()[:, None], row[:, None], [w.numpy() for w in weights], h, c)
        np.testing.assert_allclose(y, wanted[:, 0])


def test_the_gradient_of_gates_is_limited() -> None:
    """With one step and one unit the bias's gradient is that of the gates."""
    weights = [distinct((4, 1), 1), distinct((4, 1), 2), distinct((4,), 3)]
    gradients = []
    for limit in (0.0, 0.05):
        given = [w.clone().requires_grad_() for w in weights]
        text = f"lstm_param {{ num_output: 1 clipping_threshold: {limit} }}"
        (y,) = run("Lstm", text, torch.ones(1, 1, 1).double(), parameters=given)
        y.sum().backward()
        assert given[2].grad is not None
        gradients.append(given[2].grad)
    assert gradients[0].abs().max() > 0.05
    torch.testing.assert_close(gradients[1], gradients[0].clamp(-0.05, 0.05))


def test_lstm_param_tells_that_the_other_lstm_is_meant() -> None:
    assert catalogue.choose(message("LSTM", "lstm_param { num_output: 1 }")).fork
    assert not catalogue.choose(message("LSTM", "recurrent_param { num_output: 1 }")).fork
    assert not catalogue.choose(message("LSTM", "")).fork


def test_shapes_that_the_lstm_refuses() -> None:
    with pytest.raises(LayerError, match="multiple of batch_size 4"):
        made("Lstm", "lstm_param { num_output: 1 batch_size: 4 }", (6, 2))
    with pytest.raises(LayerError, match="one flag for each step"):
        made("Lstm", "lstm_param { num_output: 1 }", (6, 2), (5,))


def test_transposed_and_reversed() -> None:
    x = distinct((2, 3, 4))
    (y,) = run("Transpose", "transpose_param { dim: 2 dim: 0 dim: 1 }", x)
    np.testing.assert_array_equal(y, x.numpy().transpose(2, 0, 1))
    (y,) = run("Reverse", "reverse_param { axis: 1 }", x)
    np.testing.assert_array_equal(y, x.numpy()[:, ::-1])
    with pytest.raises(LayerError, match="must name each axis from 0 to 2 once"):
        made("Transpose", "transpose_param { dim: 2 dim: 0 dim: 0 }", (2, 3, 4))


def test_flags_of_sequences_of_one_length() -> None:
    definition = message(
        "ContinuationIndicator", "continuation_indicator_param { time_step: 3 batch_size: 2 }"
    )
    layer = build(definition, ())
    assert isinstance(layer, Source)
    flags = layer.read(7)
    assert flags is not None
    np.testing.assert_array_equal(flags[0], [[0, 0], [1, 1], [1, 1]])
    assert layer.shapes == [(3, 2)]


def collapsed(path: tuple[int, ...], blank: int, merges: bool) -> list[int]:
    """What a path of classes writes."""
    result, before = [], -1
    for label in path:
        if label != blank and not (merges and label == before):
            result.append(label)
        before = label
    return result


def likelihood(scores: np.ndarray, labels: list[int], blank: int, merges: bool = True) -> float:
    """-log of the summed probabilities of all paths (T, C) that write the labels."""
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    total = 0.0
    for path in product(range(scores.shape[1]), repeat=len(scores)):
        if collapsed(path, blank, merges) == labels:
            total += float(np.prod([p[t, label] for t, label in enumerate(path)]))
    return -np.log(total) if total else float("inf")


@pytest.mark.parametrize("merges", [True, False])
@pytest.mark.parametrize("delay", [0, 1])
def test_ctc_loss_sums_over_all_paths(merges: bool, delay: int) -> None:
    scores = distinct((4, 3, 3))
    flags = torch.ones(4, 3)
    flags[0] = 0
    flags[3, 2] = 0
    labels = torch.full((4, 3), -1.0)
    labels[:2, 0], labels[0, 1], labels[:2, 2] = torch.tensor([1.0, 0]), 0, torch.tensor([0.0, 1])
    text = f"ctc_loss_param {{ ctc_merge_repeated: {str(merges).lower()} output_delay: {delay} }}"
    (loss,) = run("CTCLoss", text, scores, flags, labels)
    ends, wanted = (4, 4, 3), ([1, 0], [0], [0, 1])
    parts = [likelihood(scores[delay : ends[n], n].numpy(), wanted[n], 2, merges) for n in range(3)]
    assert loss.item() == pytest.approx(np.mean(parts))


def test_ctc_loss_has_the_gradient_of_the_sum() -> None:
    scores = distinct((3, 2, 3)).requires_grad_()
    flags, labels = torch.ones(3, 2), torch.full((3, 2), -1.0)
    flags[0], labels[0] = 0, torch.tensor([0.0, 1])
    (loss,) = run("CTCLoss", "", scores, flags, labels)
    loss.backward()
    found = scores.grad
    scores.grad = None
    logs = scores.log_softmax(2)
    wanted = F.ctc_loss(
        logs,
        torch.tensor([[0], [1]]),
        torch.tensor([3, 3]),
        torch.tensor([1, 1]),
        blank=2,
        reduction="sum",
    )
    wanted.backward()
    torch.testing.assert_close(found, scores.grad)


@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_loss_with_labels_of_a_fixed_length(blank: int) -> None:
    scores = distinct((5, 2, 3)).requires_grad_()
    text = f"ctc_loss_param {{ blank_label: {blank} alphabet_size: 3 time_step: 4 }}"
    labels = torch.tensor([[1.0, blank, 1], [blank, 1, blank]])
    (loss,) = run("CtcLoss", text, scores, labels)
    first = scores.detach()[:4].numpy()
    parts = [likelihood(first[:, 0], [1, 1], blank), likelihood(first[:, 1], [1], blank)]
    assert loss.item() == pytest.approx(np.mean(parts))
    text = f"ctc_loss_param {{ blank_index: {blank} }}"
    (loss,) = run("WarpCTCLoss", text, scores.detach()[:4], labels)
    assert loss.item() == pytest.approx(np.mean(parts))


def test_an_impossible_sequence_does_not_count_in_warp_ctc() -> None:
    scores = distinct((2, 2, 3)).requires_grad_()
    text = "ctc_loss_param { blank_label: 2 alphabet_size: 3 time_step: 2 }"
    # Two equal labels need three steps.
    (loss,) = run("CtcLoss", text, scores, torch.tensor([[1.0, 1], [0, 2]]))
    part = likelihood(scores.detach()[:, 1].numpy(), [0], 2)
    assert loss.item() == pytest.approx(part / 2)
    loss.backward()
    assert scores.grad is not None
    assert (scores.grad[:, 0] == 0).all()
    assert scores.grad.isfinite().all()


def test_other_forms_of_labels_in_warp_ctc() -> None:
    scores = distinct((4, 2, 4))
    flags = torch.ones(4, 2)
    flags[0] = 0
    flags[3, 1] = 0
    labels = torch.full((4, 2), -1.0)
    labels[:2, 0], labels[0, 1] = torch.tensor([0.0, 2]), 1
    parts = [
        likelihood(scores[:, 0].numpy(), [1, 3], 0),
        likelihood(scores[:3, 1].numpy(), [2], 0),
    ]
    (loss,) = run("WarpCTCLoss", "ctc_loss_param { blank_index: 0 }", scores, flags, labels)
    assert loss.item() == pytest.approx(np.mean(parts))
    counted = (torch.tensor([4.0, 3]), torch.tensor([2.0, 1]), labels[:2] + 1)
    (loss,) = run("WarpCTCLoss", "ctc_loss_param { blank_index: 0 }", scores, *counted)
    assert loss.item() == pytest.approx(np.mean(parts))


def one_hot(classes: list[list[int]], count: int) -> torch.Tensor:
    """(T, N, C) with the greatest score at the classes, a list of steps for each stream."""
    return torch.eye(count)[torch.tensor(classes).t()]


def test_greedy_decoding() -> None:
    scores = one_hot([[0, 0, 3, 0, 1], [2, 3, 3, 2, 2]], 4)
    flags = torch.ones(5, 2)
    flags[0] = 0
    flags[4, 1] = 0
    truth = torch.full((5, 2), -1.0)
    truth[:3, 0], truth[:1, 1] = torch.tensor([0.0, 1, 1]), 2
    labels, totals, score = run("CTCGreedyDecoder", "", scores, flags, truth, tops=3)
    np.testing.assert_array_equal(labels[:, :, 0, 0], [[0, 0, 1, -1, -1], [2, 2, -1, -1, -1]])
    np.testing.assert_array_equal(totals.flatten(), [-5, -4])
    # Edit distances: 1 of 3, and 1 of 2.
    assert score.item() == pytest.approx(1 - (1 / 3 + 1 / 2) / 2)
    text = "ctc_decoder_param { ctc_merge_repeated: false blank_index: 0 }"
    (labels,) = run("CTCGreedyDecoder", text, scores, flags)
    np.testing.assert_array_equal(labels[:, :, 0, 0], [[3, 1, -1, -1, -1], [2, 3, 3, 2, -1]])


def test_sequences_that_are_right_as_a_whole() -> None:
    scores = one_hot([[0, 1, 1, 2], [1, 0, 1, 0], [0, 0, 0, 0]], 3).transpose(0, 1)
    labels = torch.tensor([[1.0, 2], [1, 0], [0, 0]])
    (accuracy,) = run("LabelsequenceAccuracy", "", scores, labels)
    assert accuracy.item() == pytest.approx(2 / 3)
