"""The settings of MultiBoxLoss, and what one pass works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.boxes import Boxes
from caffecompat.layers._base import Message
from caffecompat.layers.forks.ssd.multibox._matching import MatchOptions
from caffecompat.layers.forks.ssd.multibox._mining import MiningOptions
from caffecompat.proto.schema import enum_name

if TYPE_CHECKING:
    from torch import Tensor

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class MultiBoxOptions:
    """A MultiBoxLossParameter; fields that are not described here have its names and meanings.

    Attributes:
        code: the code of the locations.
        squared: whether the location loss is L2 and not SMOOTH_L1.
        logistic: whether the confidence loss is LOGISTIC and not SOFTMAX.
        classes: the number of classes, including the background.
        match_priors: whether objects are matched with priors and not with predicted boxes.
        agnostic: whether all objects are of the class that follows the background.
        inside_only: whether coordinates of boxes outside the image get no gradient.
    """

    code: str
    squared: bool
    logistic: bool
    location_weight: float
    classes: int
    share_location: bool
    match_priors: bool
    background: int
    use_difficult: bool
    variance_in_target: bool
    agnostic: bool
    inside_only: bool
    suppress_priors: bool
    objectness: float
    matching: MatchOptions
    mining: MiningOptions

    @property
    def location_classes(self) -> int:
        """The number of classes that have locations of their own."""
        return 1 if self.share_location else self.classes

    @property
    def mines(self) -> bool:
        """Whether only some of the boxes without an object take part in the loss."""
        return self.mining.kind != "NONE"

    @classmethod
    def from_message(cls, p: Message) -> MultiBoxOptions:
        return cls(
            code=enum_name(p, "code_type"),
            squared=p.loc_loss_type == p.L2,
            logistic=p.conf_loss_type == p.LOGISTIC,
            location_weight=p.loc_weight,
            classes=p.num_classes,
            share_location=p.share_location,
            match_priors=p.use_prior_for_matching,
            background=p.background_label_id,
            use_difficult=p.use_difficult_gt,
            variance_in_target=p.encode_variance_in_target,
            agnostic=p.map_object_to_agnostic,
            inside_only=p.bp_inside,
            suppress_priors=p.use_prior_for_nms,
            objectness=p.objectness_score,
            matching=MatchOptions(
                p.overlap_threshold, p.match_type == p.PER_PREDICTION, p.ignore_cross_boundary_bbox
            ),
            mining=MiningOptions.from_message(p),
        )

    def factors(self, variances: Tensor) -> Tensor | None:
        """What the locations are multiplied with; None if they contain the variances."""
        return None if self.variance_in_target else variances


@dataclass(frozen=True)
class Predictions:
    """What the net predicts for N images and P boxes.

    Attributes:
        locations: (N, P, location classes, 4).
        scores: (N, P, classes).
        priors: (P, 4), or (N, P, 4) if a first stage has refined them.
        variances: (P, 4).
        candidates: bool, (N, P), boxes that may be negatives.
    """

    locations: Tensor
    scores: Tensor
    priors: Tensor
    variances: Tensor
    candidates: NDArray[np.bool_]


@dataclass(frozen=True)
class Examples:
    """The boxes that take part in the losses: M matches and K negatives.

    Attributes:
        images, classes, boxes: (M,) of the matches; ``classes`` are location classes.
        objects: (M, 4) boxes of the matched objects.
        labels: (M,) their classes.
        negative_images, negative_boxes: (K,).
    """

    images: Indices
    classes: Indices
    boxes: Indices
    objects: Boxes
    labels: Indices
    negative_images: Indices
    negative_boxes: Indices
