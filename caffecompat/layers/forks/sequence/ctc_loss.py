"""CTCLoss: the loss of label sequences whose positions are unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._surrogate_gradient import with_gradient_of
from caffecompat.layers.forks.sequence._ctc import (
    Sequences,
    negative_log_likelihood,
    packed,
    steps_of,
)

if TYPE_CHECKING:
    from torch import Tensor


@register("CTCLoss", fork="ChWick, caffe_ocr")
class CTCLoss(Loss):
    """The mean over N streams of -log p(labels), with a softmax over the classes of each step.

    Bottoms: scores (T, N, C), before a softmax; flags (T, N), 0 where a sequence begins, else 1,
    of which the first sequence of each stream counts; and labels (T, N), which end at the first
    negative one or at one of C - 1 or more. ``blank_index`` is the class that writes nothing, C - 1
    by default. With ``ctc_merge_repeated``, the default, equal classes of neighbouring steps are
    one label. ``preprocess_collapse_repeated`` first removes repeated labels. The first
    ``output_delay`` steps do not count. Only the scores get a gradient: as in the fork, that of the
    sum over the streams, N times the derivative. A sequence that the steps do not suffice for has
    an infinite loss and no gradient.
    Source: ChWick's CTCLoss layer.
    """

    bottoms = exactly(3)
    differentiable = (True, False)
    fork_fields = ("ctc_loss_param",)
    loss_reduction = LossReduction.mean()
    batch_coupling = "has its streams along the second axis of the batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.ctc_loss_param
        for name in ("alphabet_size", "blank_label", "time_step"):
            self.check(
                not p.HasField(name),
                f"ctc_loss_param: {name} is a setting of the type CtcLoss of crnn.caffe",
            )
        self.delay = p.output_delay
        self.blank = p.blank_index
        self.merges = p.ctc_merge_repeated
        self.collapses = p.preprocess_collapse_repeated

    def infer(self, scores: Tensor, flags: Tensor, labels: Tensor) -> Tensor:
        self._check_shapes(scores, flags, labels)
        return scores.new_empty(())

    def forward(self, scores: Tensor, flags: Tensor, labels: Tensor) -> Tensor:
        self._check_shapes(scores, flags, labels)
        steps, streams, classes = scores.shape
        sequences = self._sequences(flags.detach().reshape(steps, streams), labels, classes)
        losses = negative_log_likelihood(scores[self.delay :], sequences)
        possible = losses.detach().isfinite()
        return with_gradient_of(losses.mean(), losses.where(possible, 0).sum())

    def _sequences(self, flags: Tensor, labels: Tensor, classes: int) -> Sequences:
        import torch

        rows = labels.detach().reshape(flags.shape).t()
        numbers = (rows + 0.5).long()
        within = ((rows >= 0) & (numbers < classes - 1)).long().cumprod(1).bool()
        if self.collapses:
            repeated = torch.zeros_like(within)
            repeated[:, 1:] = numbers[:, 1:] == numbers[:, :-1]
            within = within & ~repeated
        kept, lengths = packed(numbers, within, 0)
        blank = self.blank if self.blank >= 0 else classes - 1
        return Sequences(kept, lengths, steps_of(flags) - self.delay, blank, self.merges)

    def _check_shapes(self, scores: Tensor, flags: Tensor, labels: Tensor) -> None:
        count = scores.shape[0] * scores.shape[1] if scores.dim() > 1 else 0
        self.check(
            scores.dim() == 3
            and flags.numel() == count
            and labels.numel() == count
            and flags.shape[:1] == labels.shape[:1] == scores.shape[:1],
            f"its bottoms are {', '.join(format_shape(x.shape) for x in (scores, flags, labels))}; "
            "they must be scores TxNxC, flags TxN and labels TxN",
        )
        self.check(
            self.delay < scores.shape[0],
            f"output_delay is {self.delay}, but there are {scores.shape[0]} steps",
        )
