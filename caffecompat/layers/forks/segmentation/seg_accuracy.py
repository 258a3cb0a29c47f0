"""SegAccuracy: pixel accuracy, mean recall and mean intersection over union."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._bad_index import explaining_bad_index
from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register
from caffecompat.layers._class_labels import ClassLabels

if TYPE_CHECKING:
    from torch import Tensor


@register("SegAccuracy", fork="DeepLab")
class SegAccuracy(Layer):
    """Scores of a labelling of pixels, from the confusion matrix of the batch.

    Bottoms: scores (N, C, H, W) and labels (N, 1, H, W); of equal scores the last class wins.
    Pixels with an ``ignore_label`` (there may be several) do not count. The top (1, 1, 1, 3) holds
    the fraction of correct pixels, the recall averaged over the classes that occur as a label, and
    the intersection over union averaged over all classes; a class that occurs neither as label nor
    as prediction counts as 1. With ``reset: false`` the matrix counts all passes since the start.
    No gradient.
    Source: DeepLab's SegAccuracy layer.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (False,)
    fork_fields = ("seg_accuracy_param",)
    batch_coupling = "counts the pixels of the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.seg_accuracy_param
        self.check(not p.HasField("test_iter"), "seg_accuracy_param: test_iter is not supported")
        self.ignored = tuple(p.ignore_label)
        self.keeps_state = not p.reset
        self.state: Tensor | None = None
        self.check(
            len(bottoms[0]) == 4,
            f"the scores are {format_shape(bottoms[0])}, they must have 4 axes (N, C, H, W)",
        )
        if len(self.ignored) < 2:
            self.class_labels = ClassLabels(
                bottoms[0][1], next(iter(self.ignored), None), ignore_in="seg_accuracy_param"
            )

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        import torch

        n, classes, height, width = scores.shape
        self.check(
            labels.shape == (n, 1, height, width),
            f"its bottoms are {format_shape(scores.shape)} and {format_shape(labels.shape)}; the "
            f"labels must be {n}x1x{height}x{width}",
        )
        truth = labels.detach().long().flatten()
        kept = torch.ones_like(truth, dtype=torch.bool)
        for label in self.ignored:
            kept = kept & (truth != label)
        predicted = classes - 1 - scores.detach().flip(1).argmax(1).flatten()
        matrix = self._confusions(truth.where(kept, 0), predicted, kept, classes)
        return _measures(matrix).to(scores.dtype).reshape(1, 1, 1, 3)

    def _confusions(self, truth: Tensor, predicted: Tensor, kept: Tensor, classes: int) -> Tensor:
        """The matrix of counts, labels along the first axis, of this pass or of all."""
        import torch

        matrix = torch.zeros(classes, classes, dtype=torch.float64, device=truth.device)
        with explaining_bad_index(
            self,
            f"a label lies outside 0 to {classes - 1}, the classes of its scores; a missing "
            "ignore_label?",
        ):
            matrix = matrix.index_put((truth, predicted), kept.to(matrix.dtype), accumulate=True)
        if self.keeps_state and not truth.is_meta:
            self.state = matrix = matrix if self.state is None else matrix + self.state
        return matrix


def _measures(matrix: Tensor) -> Tensor:
    """Accuracy, mean recall and mean intersection over union of a matrix of counts."""
    import torch

    hits = matrix.diagonal()
    labelled, predicted = matrix.sum(1), matrix.sum(0)
    union = labelled + predicted - hits
    accuracy = hits.sum() / labelled.sum().clamp(min=1)
    recall = (hits / labelled.clamp(min=1)).sum() / (labelled > 0).sum().clamp(min=1)
    jaccard = torch.where(union > 0, hits / union.clamp(min=1), 1.0).mean()
    return torch.stack((accuracy, recall, jaccard))
