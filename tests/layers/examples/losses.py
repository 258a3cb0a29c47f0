"""Losses and Accuracy."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from tests.layers.strategies import Bottom, Draw, Example, example_of, extents, fields


def loss_fields(draw: Draw, classes: int) -> str:
    return fields(
        "loss_param",
        ignore_label=draw(st.sampled_from([None, 0, classes - 1])),
        normalization=draw(st.sampled_from(["FULL", "VALID", "BATCH_SIZE", "NONE"])),
    )


@example_of("SoftmaxWithLoss", "Accuracy")
def scored_classes(draw: Draw) -> Example:
    n, c, *rest = extents(draw, 2, 4)
    c += 1
    labels = Bottom((n, *rest), "labels", c)
    text = loss_fields(draw, c)
    return Example(text, (Bottom((n, c, *rest)), labels), tops=draw(st.integers(1, 2)))


@example_of("InfogainLoss")
def infogain(draw: Draw) -> Example:
    n, c, *rest = extents(draw, 2, 4)
    c += 1
    bottoms = (Bottom((n, c, *rest)), Bottom((n, *rest), "labels", c), Bottom((1, 1, c, c)))
    return Example(loss_fields(draw, c), bottoms, tops=draw(st.integers(1, 2)))


@example_of("MultinomialLogisticLoss")
def multinomial(draw: Draw) -> Example:
    n, *rest = extents(draw, 2, 4)
    labels = Bottom((n, 1, 1), "labels", int(torch.Size(rest).numel()))
    return Example("", (Bottom((n, *rest), "positive"), labels))


@example_of("SigmoidCrossEntropyLoss")
def sigmoid_cross_entropy(draw: Draw) -> Example:
    shape = extents(draw, 1, 4)
    kind = draw(st.sampled_from(["shares", "flags"]))
    return Example(loss_fields(draw, 2), (Bottom(shape), Bottom(shape, kind)))


@example_of("EuclideanLoss")
def euclidean(draw: Draw) -> Example:
    n, *rest = extents(draw, 1, 4)
    flat = Bottom((n, int(torch.Size(rest).numel())))
    return Example("", (Bottom((n, *rest)), flat))


@example_of("HingeLoss")
def hinge(draw: Draw) -> Example:
    n, *rest = extents(draw, 2, 4)
    norm = draw(st.sampled_from(["L1", "L2"]))
    labels = Bottom((n,), "labels", int(torch.Size(rest).numel()))
    return Example(fields("hinge_loss_param", norm=norm), (Bottom((n, *rest)), labels))


@example_of("ContrastiveLoss")
def contrastive(draw: Draw) -> Example:
    n, c = extents(draw, 2, 2)
    text = fields(
        "contrastive_loss_param",
        margin=draw(st.sampled_from([0.7, 1.4])),
        legacy_version=draw(st.booleans()),
    )
    return Example(text, (Bottom((n, c)), Bottom((n, c)), Bottom((n,), "flags")))
