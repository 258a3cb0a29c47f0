"""Losses and Accuracy: divisors, labels, clamps, gradients that differ from the derivative."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run
from tests.layers.single import call


def scores_and_labels() -> tuple[Tensor, Tensor]:
    """(2, 5, 3) scores and (2, 3) labels of which two are 4."""
    labels = torch.tensor([[0.0, 4.0, 2.0], [4.0, 1.0, 3.0]], dtype=torch.float64)
    return distinct((2, 5, 3)), labels


def per_position(scores: Tensor, labels: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(scores, labels.long(), reduction="none")


@pytest.mark.parametrize(
    ("text", "divisor"),
    [
        ("", 4),
        ("normalization: FULL", 6),
        ("normalization: VALID", 4),
        ("normalization: BATCH_SIZE", 2),
        ("normalization: NONE", 1),
        ("normalize: true", 4),
        ("normalize: false", 2),
        ("normalize: false normalization: FULL", 6),
    ],
)
def test_divisors_of_softmax_with_loss(text: str, divisor: int) -> None:
    scores, labels = scores_and_labels()
    (loss,) = run("SoftmaxWithLoss", f"loss_param {{ ignore_label: 4 {text} }}", scores, labels)
    kept = per_position(scores, labels)[labels != 4]
    assert loss.item() == pytest.approx(kept.sum().item() / divisor)


def test_everything_ignored_gives_zero() -> None:
    scores, labels = torch.randn(3, 4, requires_grad=True), torch.full((3,), 2.0)
    for type_name in ("SoftmaxWithLoss", "Accuracy"):
        text = "loss_param { ignore_label: 2 } accuracy_param { ignore_label: 2 }"
        (top,) = run(type_name, text, scores, labels)
        assert top.item() == 0


@pytest.mark.parametrize("text", ["", "loss_param { ignore_label: 7 }"])
def test_loss_is_clamped_and_its_gradient_is_not(text: str) -> None:
    scores = torch.tensor([[0.0, 200.0]], requires_grad=True)
    (loss,) = run("SoftmaxWithLoss", text, scores, torch.tensor([0.0]))
    loss.backward()
    assert loss.item() == pytest.approx(87.3365, abs=1e-3)
    assert scores.grad is not None
    assert scores.grad.tolist() == [[-1, 1]]


def test_labels_are_truncated() -> None:
    scores = distinct((2, 4))
    whole = run("SoftmaxWithLoss", "", scores, torch.tensor([0.0, 3.0]))
    broken = run("SoftmaxWithLoss", "", scores, torch.tensor([-0.9, 3.99]))
    assert torch.equal(whole[0], broken[0])


def test_a_label_of_minus_100_is_not_ignored() -> None:
    # torch ignores it by default.
    with pytest.raises(LayerError, match="outside 0 to 3"):
        run("SoftmaxWithLoss", "", distinct((2, 4)), torch.tensor([-100.0, 1.0]))


@pytest.mark.parametrize("type_name", ["SoftmaxWithLoss", "Accuracy"])
def test_a_label_beyond_the_classes_is_named(type_name: str) -> None:
    with pytest.raises(LayerError, match=r"label lies outside 0 to 3.*num_output"):
        run(type_name, "", distinct((2, 4)), torch.tensor([4.0, 1.0]))


def test_probabilities_on_a_second_top() -> None:
    scores, labels = scores_and_labels()
    scores.requires_grad_()
    loss, probabilities = run("SoftmaxWithLoss", "", scores, labels, tops=2)
    assert torch.allclose(probabilities, scores.softmax(1))
    assert not probabilities.requires_grad
    assert loss.requires_grad


def test_ignore_label_of_targets_compares_whole_numbers() -> None:
    x = torch.zeros(2, 3)
    targets = torch.tensor([[0.3, 1.0, 0.9], [1.0, -0.5, 1.0]])
    text = "loss_param { ignore_label: 0 normalization: VALID }"
    (loss,) = run("SigmoidCrossEntropyLoss", text, x, targets)
    assert loss.item() == pytest.approx(log(2))
    (loss,) = run("SigmoidCrossEntropyLoss", "", x, targets)
    assert loss.item() == pytest.approx(6 * log(2) / 2)


def test_hinge_gradient_on_the_margin_is_zero() -> None:
    scores = torch.tensor([[1.0, -1.0, 0.5]], requires_grad=True)
    (loss,) = run("HingeLoss", "", scores, torch.tensor([0.0]))
    loss.backward()
    assert loss.item() == 1.5
    assert scores.grad is not None
    assert scores.grad.tolist() == [[0, 0, 1]]


def test_contrastive_gradient_is_finite_for_equal_vectors() -> None:
    a = torch.ones(2, 3, requires_grad=True)
    b = torch.ones(2, 3, requires_grad=True)
    (loss,) = run("ContrastiveLoss", "", a, b, torch.tensor([0.0, 1.0]))
    loss.backward()
    assert loss.item() == pytest.approx(1 / 4)
    assert a.grad is not None
    assert not a.grad.any()


def test_similarity_is_truncated() -> None:
    a, b = torch.zeros(1, 3), torch.ones(1, 3)
    for similarity, expected in ((0.9, 0), (-1.0, 1.5), (2.0, 1.5)):
        (loss,) = run("ContrastiveLoss", "", a, b, torch.tensor([similarity]))
        assert loss.item() == pytest.approx(expected)


def test_ties_count_against_accuracy() -> None:
    scores, labels = torch.zeros(3, 4), torch.tensor([0.0, 2.0, 3.0])
    for top_k, expected in ((1, 0), (3, 0), (4, 1)):
        (share,) = run("Accuracy", f"accuracy_param {{ top_k: {top_k} }}", scores, labels)
        assert share.item() == expected


def test_accuracy_per_class() -> None:
    scores = torch.eye(4)[[0, 1, 1, 3]]
    share, classes = run("Accuracy", "", scores, torch.tensor([0.0, 1.0, 0.0, 3.0]), tops=2)
    assert share.item() == 0.75
    assert classes.tolist() == [0.5, 1, 0, 1]


@pytest.mark.parametrize(
    ("type_name", "shapes", "words"),
    [
        ("SoftmaxWithLoss", [(3, 6), (3, 2)], "need 3 labels, but the labels are 3x2"),
        ("SoftmaxWithLoss", [(3, 6), (4,)], "agree in the first axis"),
        ("Accuracy", [(3, 6), (4,)], "need 3 labels"),
        ("EuclideanLoss", [(3, 6), (3, 5)], "3x6 and 3x5"),
        ("EuclideanLoss", [(3, 6), (6, 3)], "agree in the first axis"),
        ("SigmoidCrossEntropyLoss", [(3, 6), (3, 5)], "equally many"),
        ("HingeLoss", [(3, 6), (3, 2)], "3 items need 3 labels"),
        ("ContrastiveLoss", [(3, 6), (3, 5), (3,)], "3x6, 3x5, 3"),
        ("ContrastiveLoss", [(3, 6, 2, 1), (3, 6, 2, 1), (3,)], "NxC"),
        ("ContrastiveLoss", [(3, 6), (3, 6), (4,)], "3 similarities|N similarities"),
    ],
)
def test_shapes_that_do_not_fit(type_name: str, shapes: list[tuple[int, ...]], words: str) -> None:
    with pytest.raises(LayerError, match=words):
        run(type_name, "", *(torch.zeros(shape) for shape in shapes))


def test_top_k_beyond_the_classes_is_refused() -> None:
    with pytest.raises(LayerError, match="top_k is 7, but the scores 3x6 have 6 classes"):
        made("Accuracy", "accuracy_param { top_k: 7 }", (3, 6), (3,), phase="TEST")
    resized = made("Accuracy", "accuracy_param { top_k: 5 }", (3, 6), (3,), phase="TEST")
    with pytest.raises(LayerError, match="top_k is 5, but the scores 2x4 have 4 classes"):
        call(resized, [torch.zeros(2, 4), torch.zeros(2)], [])


@pytest.mark.parametrize(
    ("first", "second"), [((2,), (2,)), ((2, 1), (2, 1, 1, 1)), ((2, 1, 1), (2,))]
)
def test_contrastive_loss_counts_missing_axes_as_one(
    first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    a, b = torch.tensor([1.0, 2.0]).view(first), torch.tensor([0.0, 5.0]).view(second)
    (loss,) = run("ContrastiveLoss", "", a, b, torch.ones(2))
    assert loss.item() == pytest.approx((1 + 9) / 4)
