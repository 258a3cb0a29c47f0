"""LabelsequenceAccuracy: the fraction of sequences that are right as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register
from caffecompat.layers.forks.sequence._ctc import packed, written

if TYPE_CHECKING:
    from torch import Tensor


@register("LabelsequenceAccuracy", fork="crnn.caffe")
class LabelsequenceAccuracy(Layer):
    """The fraction of streams whose decoded labels equal the true ones.

    Bottoms: scores (N, T, C) and labels (N, L); places with ``blank_label`` (0 by default) have no
    label. The best class of each step is taken, without blanks and repetitions. Top: 0 axes. No
    gradient. Source: the LabelsequenceAccuracy layer of crnn.caffe.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (False,)
    fork_fields = ("labelsequence_accuracy_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.blank = message.labelsequence_accuracy_param.blank_label

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        import torch.nn.functional as F

        self.check(
            scores.dim() == 3 and labels.dim() == 2 and labels.shape[0] == scores.shape[0],
            f"its bottoms are {format_shape(scores.shape)} and {format_shape(labels.shape)}; they "
            "must be scores NxTxC and labels NxL",
        )
        classes = scores.detach().argmax(2)
        found, _ = packed(classes, written(classes, self.blank, True), -1)
        numbers = labels.detach().long()
        wanted, _ = packed(numbers, numbers != self.blank, -1)
        longest = max(found.shape[1], wanted.shape[1])
        padded = [F.pad(x, (0, longest - x.shape[1]), value=-1) for x in (found, wanted)]
        return (padded[0] == padded[1]).all(1).to(scores.dtype).mean()
