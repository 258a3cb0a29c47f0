"""ProposalTargetLayer of py-faster-rcnn: regions to learn from, with classes and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Message, Shape, exactly, format_shape
from caffecompat.layers._python_equivalent import (
    REQUIRED,
    PythonEquivalent,
    register_python_layer,
)
from caffecompat.layers.forks.rcnn._one_image import OneImage, before_the_first_pass
from caffecompat.layers.forks.rcnn._pixel_boxes import encode, overlaps
from caffecompat.layers.forks.rcnn._sampling import draw_keys, some
from caffecompat.layers.forks.rcnn.faster_rcnn._rfcn_nets import (
    ALL_REGIONS,
    is_of_rfcn,
    mines_hard_examples,
)

if TYPE_CHECKING:
    from torch import Tensor


@register_python_layer(
    ("rpn.proposal_target_layer", "ProposalTargetLayer"),
    ("lib.rpn.proposal_target_layer", "ProposalTargetLayer"),
    fork="py-faster-rcnn",
)
class ProposalTargetLayer(OneImage, PythonEquivalent):
    """A random choice of one image's regions, the class of each, and where its object is.

    Bottoms: regions (P, 5) with rows [0, x1, y1, x2, y2], and objects (G, 5) with rows
    [x1, y1, x2, y2, class]. Tops: regions (R, 5); classes (R), 0 for background; targets, inside
    weights and outside weights (R, 4 * num_classes), which are 0 but for the four values of the
    region's class. When the net is built the tops have one row.

    The objects themselves are regions too. A region has its object's class if they overlap by
    FG_THRESH (0.5) or more; it is background if its largest overlap is at least BG_THRESH_LO (0)
    and below BG_THRESH_HI (0.5). BATCH_SIZE (128) are drawn, of them at most a share of FG_FRACTION
    (0.25) with an object; objects come first. With BBOX_NORMALIZE_TARGETS_PRECOMPUTED (true)
    targets are reduced by BBOX_NORMALIZE_MEANS (0, 0, 0, 0) and divided by BBOX_NORMALIZE_STDS
    (0.1, 0.1, 0.2, 0.2). Inside weights are BBOX_INSIDE_WEIGHTS (1, 1, 1, 1), outside weights 1.
    These are keys of ``param_str``, beside ``num_classes``; the defaults are those of
    py-faster-rcnn's end-to-end training. Source: rpn/proposal_target_layer.py of py-faster-rcnn.

    In a net with layer types of R-FCN all tops have four axes, the last ones of 1. There AGNOSTIC
    (true where num_classes is 2) puts the targets of all objects into the place of class 1, and
    BATCH_SIZE -1 takes all regions, as it does by default in a net with a BoxAnnotatorOHEM. Source:
    the same file of py-R-FCN.
    """

    bottoms = exactly(2)
    tops = exactly(5)
    reads_definition = True
    options = {
        "num_classes": REQUIRED,
        "AGNOSTIC": False,
        "BATCH_SIZE": 128,
        "FG_FRACTION": 0.25,
        "FG_THRESH": 0.5,
        "BG_THRESH_HI": 0.5,
        "BG_THRESH_LO": 0.0,
        "BBOX_NORMALIZE_TARGETS_PRECOMPUTED": True,
        "BBOX_NORMALIZE_MEANS": (0.0, 0.0, 0.0, 0.0),
        "BBOX_NORMALIZE_STDS": (0.1, 0.1, 0.2, 0.2),
        "BBOX_INSIDE_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
    }

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.axes = 4 if is_of_rfcn(self.context.definition) else 2
        self.read_options(message)
        for name in ("BBOX_NORMALIZE_MEANS", "BBOX_NORMALIZE_STDS", "BBOX_INSIDE_WEIGHTS"):
            self.check(len(self.given[name]) == 4, f"param_str: {name} must have 4 numbers")
        self.classes = int(self.given["num_classes"])
        self.agnostic = bool(self.given["AGNOSTIC"])
        self.check(
            self.classes == 2 or not self.agnostic,
            f"param_str: num_classes is {self.classes}; with AGNOSTIC it must be 2",
        )

    def _option(self, name: str, found: Mapping[str, Any]) -> Any:
        if name == "AGNOSTIC" and name not in found:
            return self.axes > 2 and found.get("num_classes") == 2
        mines = mines_hard_examples(self.context.definition)
        if name == "BATCH_SIZE" and name not in found and mines:
            return ALL_REGIONS
        return super()._option(name, found)

    def forward(self, regions: Tensor, objects: Tensor) -> tuple[Tensor, ...]:
        import torch

        self._check_shapes(regions, objects)
        truth = objects.detach().reshape(-1, 5)
        self.check(
            self.agnostic or not truth.shape[0] or bool((truth[:, 4] < self.classes).all()),
            f"an object has class {truth[:, 4].max() if truth.shape[0] else 0:g}, but num_classes "
            f"is {self.classes}, which counts the background as class 0",
        )
        own = torch.nn.functional.pad(truth[:, :4], (1, 0))
        every = torch.cat([regions.detach().reshape(-1, 5), own])
        most, best = self._overlaps(every, truth)
        positive, negative = self._drawn(most, every)
        kept = torch.cat([positive, negative])
        classes = every.new_zeros(len(kept))
        targets = every.new_zeros(len(kept), 4)
        if len(positive):
            classes[: len(positive)] = truth[best[positive], 4]
        if truth.shape[0]:
            targets = self._targets(every[kept, 1:], truth[best[kept], :4])
        return self._shaped(every[kept], classes, *self._expanded(classes, targets))

    def infer(self, regions: Tensor, objects: Tensor) -> tuple[Tensor, ...]:
        self._check_shapes(regions, before_the_first_pass(objects))
        wide = 4 * self.classes
        new = regions.new_empty
        return self._shaped(new(1, 5), new(1), *(new(1, wide) for _ in range(3)))

    def _shaped(self, *tops: Tensor) -> tuple[Tensor, ...]:
        """The tops with the axes that they have in this net."""
        if self.axes == 2:
            return tops
        return tuple(top.reshape(len(top), -1 if top.dim() > 1 else 1, 1, 1) for top in tops)

    def _check_shapes(self, regions: Tensor, objects: Tensor) -> None:
        self.check(
            all(x.dim() >= 2 and x.shape[1] == 5 for x in (regions, objects)),
            f"its bottoms are {format_shape(regions.shape)} and {format_shape(objects.shape)}; "
            "expected regions P x 5 and objects G x 5",
        )

    def _overlaps(self, every: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """The largest overlap of each region with an object, and the object."""
        import torch

        if truth.shape[0] == 0:
            best = torch.zeros(len(every), dtype=torch.int64, device=every.device)
            return every.new_zeros(len(every)).double(), best
        most, best = overlaps(every[:, 1:].double(), truth[:, :4].double()).max(1)
        return most, best

    def _drawn(self, most: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of drawn regions with an object, and of background."""
        given = self.given
        size = int(given["BATCH_SIZE"])
        size = len(most) if size == ALL_REGIONS else size
        keys = draw_keys(self.noise, len(most), like)
        objects = most >= given["FG_THRESH"]
        background = (most < given["BG_THRESH_HI"]) & (most >= given["BG_THRESH_LO"])
        positive = some(objects, keys[0], self._most_objects(size))
        return positive, some(background, keys[1], size - len(positive))

    def _most_objects(self, size: int) -> int:
        every = int(self.given["BATCH_SIZE"]) == ALL_REGIONS
        return size if every else round(self.given["FG_FRACTION"] * size)

    def _targets(self, boxes: Tensor, objects: Tensor) -> Tensor:
        targets = encode(boxes, objects)
        if self.given["BBOX_NORMALIZE_TARGETS_PRECOMPUTED"]:
            means = targets.new_tensor(self.given["BBOX_NORMALIZE_MEANS"])
            stds = targets.new_tensor(self.given["BBOX_NORMALIZE_STDS"])
            targets = (targets - means) / stds
        return targets

    def _expanded(self, classes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Targets and weights with four values for each class."""
        import torch

        known = torch.arange(self.classes, device=classes.device)
        classes = classes.clamp(max=1) if self.agnostic else classes
        own = (classes.unsqueeze(1) == known) & (known > 0)
        values = (own.unsqueeze(2) * targets.unsqueeze(1)).flatten(1)
        weights = targets.new_tensor(self.given["BBOX_INSIDE_WEIGHTS"])
        inside = (own.unsqueeze(2) * weights).flatten(1)
        return values, inside, (inside > 0).to(inside)
