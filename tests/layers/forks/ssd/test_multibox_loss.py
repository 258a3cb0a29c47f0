"""MultiBoxLoss, against loops over images and boxes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.forks.ssd.detection_references import decoded, overlap
from tests.layers.forks.ssd.multibox_reference import (
    CLASSES,
    COUNT,
    Reference,
    bottoms,
    loss_of,
    predictions,
    text,
)
from tests.layers.messages import made, run

CASES: list[dict[str, object]] = [
    {},
    {"code_type": "CORNER", "loc_loss_type": "L2"},
    {"code_type": "CORNER_SIZE", "match_type": "BIPARTITE"},
    {"conf_loss_type": "LOGISTIC", "use_difficult_gt": "false"},
]


@pytest.mark.parametrize("values", CASES, ids=str)
def test_max_negative(values: dict[str, object]) -> None:
    where, conf, count = Reference(*bottoms(), **values).max_negative()
    assert count > 2
    found = loss_of(*bottoms(), loc_weight=0.7, **values)
    assert float(found) == pytest.approx((0.7 * where + conf) / count, rel=1e-5)


@pytest.mark.parametrize(
    ("loss_param", "divisor"),
    [
        ("normalization: FULL", 60),
        ("normalization: BATCH_SIZE", 3),
        ("normalize: false", 3),
        ("normalization: NONE", 1),
    ],
)
def test_divisors(loss_param: str, divisor: int) -> None:
    where, conf, _ = Reference(*bottoms()).max_negative()
    found = loss_of(*bottoms(), loss_param=loss_param)
    assert float(found) == pytest.approx((where + conf) / divisor, rel=1e-5)


@pytest.mark.parametrize("conf_loss_type", ["SOFTMAX", "LOGISTIC"])
def test_without_mining_all_boxes_of_all_images_count(conf_loss_type: str) -> None:
    values: dict[str, object] = {"conf_loss_type": conf_loss_type, "mining_type": "NONE"}
    reference = Reference(*bottoms(), **values)
    where = conf = 0.0
    count = 0
    for n in range(COUNT):
        for p, one in enumerate(reference.matches(n)):
            row = reference.objects[n][one] if one > -1 else None
            background = -1 if reference.logistic else 0
            conf += reference.confidence(n, p, int(row[1]) if row else background)
            where += reference.location(n, p, row) if row else 0
            count += row is not None
    found = loss_of(*bottoms(), **values)
    assert float(found) == pytest.approx((where + conf) / count, rel=1e-5)


def test_hard_examples_are_those_of_the_largest_losses() -> None:
    reference = Reference(*bottoms())
    where = conf = 0.0
    count = 0
    for n in range(COUNT):
        found = reference.matches(n)
        if not reference.objects[n]:
            continue
        parts = []
        for p, one in enumerate(found):
            row = reference.objects[n][one] if one > -1 else None
            parts.append(
                (
                    reference.location(n, p, row) if row else 0.0,
                    reference.confidence(n, p, int(row[1]) if row else 0),
                    row is not None,
                )
            )
        for location, confidence, match in sorted(parts, key=lambda x: -x[0] - x[1])[:6]:
            where, conf, count = where + location, conf + confidence, count + match
    assert count > 1
    loss = loss_of(*bottoms(), mining_type="HARD_EXAMPLE", sample_size=6)
    assert float(loss) == pytest.approx((where + conf) / count, rel=1e-5)


@pytest.mark.parametrize("priors_only", [True, False])
def test_suppression_before_mining(priors_only: bool) -> None:
    reference = Reference(*bottoms())
    where = conf = 0.0
    count = 0
    for n in range(COUNT):
        found = reference.matches(n)
        own = [(p, reference.objects[n][one]) for p, one in enumerate(found) if one > -1]
        where += sum(reference.location(n, p, row) for p, row in own)
        conf += sum(reference.confidence(n, p, int(row[1])) for p, row in own)
        count += len(own)
        ranked = sorted(
            (p for p, one in enumerate(found) if one == -1 and reference.overlaps[p] < 0.5),
            key=lambda p: -reference.confidence(n, p, 0),
        )
        kept: list[list[float]] = []
        for p in ranked[:9] if own else []:
            box = reference.boxes[p]
            if not priors_only:
                shift = reference.locations[n][p][0]
                box = decoded("CENTER_SIZE", shift, box, reference.variances[p])
            if all(overlap(box, other) <= 0.1 for other in kept) and len(kept) < len(own) * 3:
                kept.append(box)
                conf += reference.confidence(n, p, 0)
    loss = loss_of(
        *bottoms(),
        nms_param="{ nms_threshold: 0.1 top_k: 9 }",
        use_prior_for_nms=str(priors_only).lower(),
    )
    assert float(loss) == pytest.approx((where + conf) / count, rel=1e-5)


def test_each_class_may_have_locations_of_its_own() -> None:
    given = bottoms(CLASSES)
    values: dict[str, object] = {"mining_type": "NONE"}
    reference = Reference(*given, **values)
    where = conf = 0.0
    count = 0
    for n in range(COUNT):
        for p, one in enumerate(reference.matches(n)):
            row = reference.objects[n][one] if one > -1 else None
            label = int(row[1]) if row else 0
            conf += reference.confidence(n, p, label)
            where += reference.location(n, p, row, label) if row else 0
            count += row is not None
    found = loss_of(*given, share_location="false", **values)
    assert float(found) == pytest.approx((where + conf) / count, rel=1e-5)


def test_predicted_boxes_may_be_matched() -> None:
    reference = Reference(*bottoms())
    where = conf = 0.0
    count = 0
    for n in range(COUNT):
        boxes = [
            decoded("CENTER_SIZE", reference.locations[n][p][0], box, reference.variances[p])
            for p, box in enumerate(reference.boxes)
        ]
        for p, one in enumerate(reference.matches(n, boxes)):
            row = reference.objects[n][one] if one > -1 else None
            conf += reference.confidence(n, p, int(row[1]) if row else 0)
            where += reference.location(n, p, row) if row else 0
            count += row is not None
    found = loss_of(*bottoms(), use_prior_for_matching="false", mining_type="NONE")
    assert float(found) == pytest.approx((where + conf) / count, rel=1e-5)


def test_second_stage_of_refinedet() -> None:
    locations, scores, blob, truth = bottoms()
    count = blob.shape[2] // 4
    first_locations = predictions(seed=4)[0] * 0.3
    objectness = torch.rand(COUNT, count, 2, generator=torch.Generator().manual_seed(2)).double()
    loss = loss_of(
        *(locations, scores, blob, truth, objectness.reshape(COUNT, -1), first_locations),
        objectness_score=0.3,
    )
    where = conf = 0.0
    matches = 0
    for n in range(COUNT):
        reference = Reference(locations, scores, blob, truth)
        shifts = first_locations[n].reshape(count, 4).tolist()
        reference.boxes = [
            decoded("CENTER_SIZE", shifts[p], box, reference.variances[p])
            for p, box in enumerate(reference.boxes)
        ]
        found = reference.matches(n)
        if not reference.objects[n]:
            continue
        own = [(p, reference.objects[n][one]) for p, one in enumerate(found) if one > -1]
        negatives = [
            reference.confidence(n, p, 0)
            for p, one in enumerate(found)
            if one == -1 and reference.overlaps[p] < 0.5 and objectness[n, p, 1] >= 0.3
        ]
        where += sum(reference.location(n, p, row) for p, row in own)
        conf += sum(reference.confidence(n, p, int(row[1])) for p, row in own)
        conf += sum(sorted(negatives, reverse=True)[: 3 * len(own)])
        matches += len(own)
    assert float(loss) == pytest.approx((where + conf) / matches, rel=1e-5)


def test_first_stage_of_refinedet_tells_objects_from_background() -> None:
    """With two classes every object is of class 1."""
    locations, _, blob, truth = bottoms()
    scores = predictions()[1].reshape(COUNT, -1, CLASSES)[..., :2].reshape(COUNT, -1)
    agnostic = truth.clone()
    agnostic[..., 1] = 1
    found = loss_of(locations, scores, blob, truth, num_classes=2)
    assert float(found) == float(loss_of(locations, scores, blob, agnostic, num_classes=2))


def test_boxes_across_the_border_may_be_left_out() -> None:
    whole = loss_of(*bottoms(), mining_type="NONE", loss_param="normalization: NONE")
    fields = {"mining_type": "NONE", "ignore_cross_boundary_bbox": "true"}
    inside = loss_of(*bottoms(), loss_param="normalization: NONE", **fields)
    reference = Reference(*bottoms())
    difference = 0.0
    for n in range(COUNT):
        boxes = [
            box if min(box) >= 0 and max(box) <= 1 else [5.0, 5.0, 6.0, 6.0]
            for box in reference.boxes
        ]
        for own, sign in ((reference.matches(n), 1), (reference.matches(n, boxes), -1)):
            for p, one in enumerate(own):
                row = reference.objects[n][one] if one > -1 else None
                part = reference.confidence(n, p, int(row[1]) if row else 0)
                part += reference.location(n, p, row) if row else 0
                difference += sign * part
    assert float(whole - inside) == pytest.approx(difference, rel=1e-4)
    assert abs(difference) > 0.1


def test_coordinates_outside_the_image_may_get_no_gradient() -> None:
    locations, scores, blob, truth = bottoms()
    locations.requires_grad_()
    fields = {"bp_inside": "true", "match_type": "BIPARTITE", "code_type": "CORNER"}
    loss_of(locations, scores, blob, truth, **fields).backward()
    assert locations.grad is not None
    boxes = blob.reshape(2, -1, 4)[0]
    outside = ((boxes < 0) | (boxes > 1)).expand(COUNT, -1, -1).reshape(COUNT, -1)
    assert not locations.grad[outside].any()
    assert locations.grad[~outside].any()


@pytest.mark.parametrize("values", CASES, ids=str)
def test_gradient_is_the_derivative(values: dict[str, object]) -> None:
    locations, scores, blob, truth = bottoms()
    locations.requires_grad_()
    scores.requires_grad_()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return loss_of(a, b, blob, truth, **values)

    assert torch.autograd.gradcheck(loss, (locations, scores), fast_mode=True, atol=1e-4)


def test_variances_in_the_target() -> None:
    """Predictions that contain the variances, and losses as if they did not."""
    locations, scores, blob, truth = bottoms()
    scaled = locations * blob[0, 1]
    found = loss_of(scaled, scores, blob, truth, encode_variance_in_target="true")
    assert float(found) == pytest.approx(float(loss_of(*bottoms())), rel=1e-5)


def test_no_objects_give_no_loss_but_gradients() -> None:
    locations, scores, blob, _ = bottoms()
    locations.requires_grad_()
    scores.requires_grad_()
    loss = loss_of(locations, scores, blob, torch.full((1, 1, 1, 8), -1.0).double())
    loss.backward()
    assert loss.item() == 0
    assert locations.grad is not None
    assert scores.grad is not None
    assert not locations.grad.any()
    assert not scores.grad.any()


def test_propagate_down_leaves_a_part_out() -> None:
    where, _, count = Reference(*bottoms()).max_negative()
    definition = f"{text()} propagate_down: true propagate_down: false"
    (loss,) = run("MultiBoxLoss", definition, *bottoms())
    assert float(loss) == pytest.approx(where / count, rel=1e-5)


def test_losses_of_slices_make_that_of_the_batch() -> None:
    """As on several ranks, with the number of matches as divisor."""
    locations, scores, blob, truth = bottoms()
    layer = made("MultiBoxLoss", text(), *(bottom.shape for bottom in bottoms()))
    assert layer.loss_reduction is not None
    assert layer.loss_reduction.count is not None
    whole = layer.loss_reduction.count(bottoms())
    total = 0.0
    for rows, objects in ((slice(0, 1), truth[:, :, :3]), (slice(1, 3), truth[:, :, 3:].clone())):
        objects = objects.clone()
        objects[..., 0] -= rows.start
        part = (locations[rows], scores[rows], blob, objects)
        share = layer.loss_reduction.count(part).clamp(min=1) / whole
        total += float(layer.forward(*part) * share)
    assert total == pytest.approx(float(layer.forward(*bottoms())))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"num_classes": 0}, "has no num_classes"),
        ({"share_location": "false"}, "needs mining_type: NONE"),
        ({"do_neg_mining": "false"}, "do_neg_mining contradicts mining_type MAX_NEGATIVE"),
        ({"mining_type": "HARD_EXAMPLE", "sample_size": 0}, "sample_size is 0"),
        ({"map_object_to_agnostic": "true"}, "needs num_classes: 2, found 4"),
        ({"background_label_id": 4}, "background_label_id is 4, expected 0 to 3"),
        ({"use_polygon": "true"}, "use_polygon: from another Caffe version"),
    ],
)
def test_refusals(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        made("MultiBoxLoss", text(**values), *(bottom.shape for bottom in bottoms()))


def test_objects_of_the_background_or_of_other_images_are_refused() -> None:
    locations, scores, blob, truth = bottoms()
    wrong = truth.clone()
    wrong[0, 0, 0, 1] = 0
    with pytest.raises(LayerError, match="has the label 0, but the classes are 0 to 3 and 0 is"):
        loss_of(locations, scores, blob, wrong)
    wrong = truth.clone()
    wrong[0, 0, 0, 0] = 3
    with pytest.raises(LayerError, match="an object of image 3, but the batch has 3 images"):
        loss_of(locations, scores, blob, wrong)
