"""MultiBoxLoss: the loss of SSD's nets on the objects of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffecompat.layers._base import Message, Shape, between, format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers.forks._other_fields import refuse_other_fields
from caffecompat.layers.forks.ssd._box_codes import decode, split_priors
from caffecompat.layers.forks.ssd._ground_truth import read_truth
from caffecompat.layers.forks.ssd.multibox._examples import find_examples
from caffecompat.layers.forks.ssd.multibox._multibox_losses import confidence_loss, location_losses
from caffecompat.layers.forks.ssd.multibox._multibox_options import (
    Examples,
    MultiBoxOptions,
    Predictions,
)

if TYPE_CHECKING:
    from torch import Tensor

_KNOWN = (
    *("loc_loss_type", "conf_loss_type", "loc_weight", "num_classes", "share_location"),
    *("match_type", "overlap_threshold", "use_prior_for_matching", "background_label_id"),
    *("use_difficult_gt", "do_neg_mining", "neg_pos_ratio", "neg_overlap", "code_type"),
    *("encode_variance_in_target", "map_object_to_agnostic", "ignore_cross_boundary_bbox"),
    *("bp_inside", "mining_type", "nms_param", "sample_size", "use_prior_for_nms"),
    "objectness_score",
)


@register("MultiBoxLoss", fork="SSD, RefineDet")
class MultiBoxLoss(Loss):
    """(loc_weight * location loss + confidence loss) / divisor.

    Bottoms: locations (N, 4 * P * L), with L = 1 or, without ``share_location``, the number of
    classes; scores (N, P * classes) before the softmax; priors (1, 2, 4 * P), see PriorBox; ground
    truth (1, 1, G, 8) with rows [image, class, instance, xmin, ymin, xmax, ymax, difficult].
    RefineDet's second stage also gets the first stage's probabilities (N, 2 * P) and its locations
    (N, 4 * P): a box that is an object with less than ``objectness_score`` is no negative, and the
    first stage's boxes replace the priors.

    Matches: each object takes the box that overlaps it most, and with PER_PREDICTION each other box
    takes the object that it overlaps most, from ``overlap_threshold`` on. Negatives: with
    MAX_NEGATIVE the unmatched boxes of the largest confidence losses, ``neg_pos_ratio`` for each
    match of the image; with HARD_EXAMPLE the ``sample_size`` boxes of an image with the largest
    losses are matches or negatives; with NONE all other boxes of all images. The location loss is
    the sum over the matches of the SMOOTH_L1 or L2 loss of the encoded object, the confidence loss
    the sum of the softmax or logistic losses of matches and negatives. The divisor is the number of
    matches (VALID, the default), N * P (FULL), N (BATCH_SIZE) or 1 (NONE), at least 1.

    Source: SSD's MultiBoxLoss layer, and RefineDet's. For LOGISTIC with NONE and several images SSD
    mixes up the images' targets; here each image has its own.
    """

    bottoms = between(4, 6)
    differentiable = (True, True, False)
    param_fields = ("loss_param",)
    fork_fields = ("multibox_loss_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.multibox_loss_param
        refuse_other_fields(self, "multibox_loss_param", p, _KNOWN)
        self.check(p.num_classes > 0, "multibox_loss_param has no num_classes; give it")
        self.options = MultiBoxOptions.from_message(p)
        self._check_combinations(p, len(bottoms))
        if p.HasField("nms_param") and not p.nms_param.HasField("top_k"):
            self.note("nms_param has no top_k, which is 0 here, so that no example is mined")
        included = [*message.propagate_down, True, True]
        self.counts_locations, self.counts_scores = bool(included[0]), bool(included[1])
        self._read_divisor(message.loss_param)

    def _check_combinations(self, p: Message, bottoms: int) -> None:
        options = self.options
        self.check(
            options.background < options.classes or (options.logistic and not options.mines),
            f"multibox_loss_param: background_label_id is {options.background}, expected 0 to "
            f"{options.classes - 1}",
        )
        self.check(
            not p.HasField("do_neg_mining") or p.do_neg_mining == options.mines,
            f"multibox_loss_param: do_neg_mining contradicts mining_type {options.mining.kind}; "
            "remove do_neg_mining, which mining_type has replaced",
        )
        self.check(
            options.share_location or (not options.mines and bottoms == 4),
            "multibox_loss_param: share_location: false needs mining_type: NONE and four bottoms",
        )
        self.check(
            options.mining.kind != "HARD_EXAMPLE" or options.mining.sample_size > 0,
            f"multibox_loss_param: sample_size is {options.mining.sample_size}, expected 1 or more",
        )
        self.check(
            not options.agnostic or (options.classes == 2 and options.background < 2),
            f"multibox_loss_param: map_object_to_agnostic needs num_classes: 2, found "
            f"{options.classes}",
        )

    def _read_divisor(self, p: Message) -> None:
        if not p.HasField("normalization") and p.HasField("normalize"):
            self.divisor = "VALID" if p.normalize else "BATCH_SIZE"
        else:
            self.divisor = p.NormalizationMode.Name(p.normalization)
        if self.divisor == "NONE":
            self.loss_reduction = LossReduction.sum()
        elif self.divisor == "VALID":
            self.loss_reduction = LossReduction.mean(self._count_matches)
        else:
            self.loss_reduction = LossReduction.mean()

    def infer(self, *bottoms: Tensor) -> Tensor:
        self._check_shapes(bottoms)
        return bottoms[0].new_empty(())

    def forward(self, *bottoms: Tensor) -> Tensor:
        predicted, examples = self._read(bottoms)
        # A loss without examples has a gradient too, which is 0.
        loss = predicted.scores[:0].sum() + predicted.locations[:0].sum()
        if self.counts_locations and len(examples.images):
            values = location_losses(predicted, examples, self.options)
            loss = loss + self.options.location_weight * values.sum()
        if self.counts_scores:
            loss = loss + confidence_loss(predicted, examples, self.options)
        count, boxes = predicted.scores.shape[:2]
        matches = len(examples.images)
        divisors = {"VALID": matches, "FULL": count * boxes, "BATCH_SIZE": count, "NONE": 1}
        return loss / max(1, divisors[self.divisor])

    def _count_matches(self, bottoms: Sequence[Tensor]) -> Tensor:
        import torch

        return torch.tensor(len(self._read(bottoms)[1].images), device=bottoms[0].device)

    def _read(self, bottoms: Sequence[Tensor]) -> tuple[Predictions, Examples]:
        self._check_shapes(bottoms)
        predicted = self._predictions(bottoms)
        truth = read_truth(self, bottoms[3], self.options.classes, self.options.background)
        count = len(predicted.scores)
        self.check(
            all(0 <= image < count for image in truth),
            f"the ground truth has an object of image {max(truth, default=0)}, but the batch has "
            f"{count} images",
        )
        return predicted, find_examples(predicted, truth, self.options)

    def _predictions(self, bottoms: Sequence[Tensor]) -> Predictions:
        count = len(bottoms[0])
        priors, variances = split_priors(bottoms[2])
        boxes = len(priors)
        candidates = np.ones((count, boxes), bool)
        if len(bottoms) > 4:
            objectness = bottoms[4].detach().reshape(count, boxes, 2)[..., 1].float().cpu().numpy()
            candidates = objectness >= np.float32(self.options.objectness)
        if len(bottoms) > 5:
            first = bottoms[5].detach().reshape(count, boxes, 4)
            priors = decode(self.options.code, first, priors, self.options.factors(variances))
        locations = bottoms[0].reshape(count, boxes, -1, 4)
        scores = bottoms[1].reshape(count, boxes, -1)
        return Predictions(locations, scores, priors, variances, candidates)

    def _check_shapes(self, bottoms: Sequence[Tensor]) -> None:
        locations, scores, priors, truth, *first = bottoms
        self.check(
            priors.dim() == 3 and priors.shape[:2] == (1, 2) and priors.shape[2] % 4 == 0,
            f"the priors are {format_shape(priors.shape)}, expected (1, 2, 4 * boxes)",
        )
        self.check(
            truth.dim() == 4 and truth.shape[-1] == 8,
            f"the ground truth is {format_shape(truth.shape)}, expected (1, 1, objects, 8)",
        )
        boxes = priors.shape[2] // 4
        sizes = {
            "locations": (locations, 4 * self.options.location_classes),
            "scores": (scores, self.options.classes),
        }
        names = ("first stage's scores", "first stage's locations")
        sizes.update(zip(names, zip(first, (2, 4), strict=False), strict=False))
        for name, (blob, size) in sizes.items():
            expected = (*locations.shape[:1], boxes * size)
            self.check(
                blob.shape[:1] == expected[:1] and blob.numel() == expected[0] * expected[1],
                f"the {name} are {format_shape(blob.shape)}, but {boxes} priors need "
                f"{format_shape(expected)}",
            )
