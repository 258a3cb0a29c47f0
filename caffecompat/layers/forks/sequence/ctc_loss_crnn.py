"""CtcLoss: connectionist temporal classification with labels of a fixed length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, format_shape, register
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers.forks.sequence._ctc import Sequences, packed
from caffecompat.layers.forks.sequence._warp_ctc import WarpCTC

if TYPE_CHECKING:
    from torch import Tensor


@register("CtcLoss", fork="crnn.caffe")
class CtcLoss(WarpCTC):
    """The mean over N streams of -log p(labels), with a softmax over the classes of each step.

    Bottoms: scores (T, N, C), before a softmax, with C = ``alphabet_size``, and labels (N, L), in
    which ``blank_label`` fills the places without a label. The first ``time_step`` steps count. A
    sequence for which they do not suffice has loss 0 and no gradient, as in warp-ctc.
    Source: the CtcLoss layer of crnn.caffe.
    """

    differentiable = (True, False)
    fork_fields = ("ctc_loss_param",)
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.ctc_loss_param
        self.blank, self.steps = p.blank_label, p.time_step
        scores = bottoms[0]
        self.check(
            len(scores) == 3 and p.alphabet_size == scores[2],
            f"the scores are {format_shape(scores)}, they must be TxNxC with C the alphabet_size "
            f"{p.alphabet_size}",
        )
        self.check(
            0 < self.steps <= scores[0],
            f"time_step is {self.steps}, it must be 1 to {scores[0]}, the steps of the scores",
        )
        self.check(
            self.blank < p.alphabet_size,
            f"blank_label is {self.blank}, it must be below alphabet_size {p.alphabet_size}",
        )
        self.class_labels = ClassLabels(p.alphabet_size, can_ignore=False)

    def infer(self, scores: Tensor, labels: Tensor) -> Tensor:
        self._check_shapes(scores, labels)
        return scores.new_empty(())

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        import torch

        self._check_shapes(scores, labels)
        numbers = labels.detach().long()
        self.check_labels(scores, numbers)
        kept, lengths = packed(numbers, numbers != self.blank, 0)
        steps = torch.full_like(lengths, self.steps)
        return self.mean_loss(scores[: self.steps], Sequences(kept, lengths, steps, self.blank))

    def _check_shapes(self, scores: Tensor, labels: Tensor) -> None:
        self.check(
            scores.dim() == 3 and labels.dim() == 2 and labels.shape[0] == scores.shape[1],
            f"its bottoms are {format_shape(scores.shape)} and {format_shape(labels.shape)}; they "
            "must be scores TxNxC and labels NxL",
        )
