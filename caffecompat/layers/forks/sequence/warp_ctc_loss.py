"""WarpCTCLoss: connectionist temporal classification by Baidu's warp-ctc."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, format_shape, register
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers.forks.sequence._ctc import Sequences, packed, steps_of
from caffecompat.layers.forks.sequence._warp_ctc import WarpCTC

if TYPE_CHECKING:
    from torch import Tensor


@register("WarpCTCLoss", fork="caffe_ocr, ChWick")
class WarpCTCLoss(WarpCTC):
    """The mean over N streams of -log p(labels), with a softmax over the classes of each step.

    The first bottom holds scores (T, N, C), before a softmax. With two bottoms the second holds
    labels (N, L), in which ``blank_index`` fills the places without a label, and all steps count.
    With three they are flags (T, N), 0 where a sequence begins, else 1, and labels (T, N) that end
    at the first negative one; with ``blank_index: 0`` these labels are counted from 1 in the
    scores. With four they are the numbers of steps (N), the numbers of labels (N), and labels
    (L, N). A sequence that the steps do not suffice for has loss 0 and no gradient.
    Source: the WarpCTCLoss layer of caffe_ocr.
    """

    bottoms = between(2, 4)
    differentiable = (True, False)
    fork_fields = ("ctc_loss_param",)
    param_fields = ("ctc_loss_param",)
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.ctc_loss_param
        self.blank = p.blank_index
        scores = bottoms[0]
        self.check(len(scores) == 3, f"the scores are {format_shape(scores)}, they must be TxNxC")
        self.check(
            0 <= self.blank < scores[2],
            f"blank_index is {self.blank}, it must be 0 to {scores[2] - 1}, a class of the scores",
        )

    def infer(self, scores: Tensor, *others: Tensor) -> Tensor:
        self._check_shapes(scores, others)
        return scores.new_empty(())

    def forward(self, scores: Tensor, *others: Tensor) -> Tensor:
        self._check_shapes(scores, others)
        given = tuple(x.detach() for x in others)
        read = (self._filled, self._flagged, self._counted)[len(given) - 1]
        sequences = read(scores, *given)
        self.check_labels(scores, sequences.labels)
        return self.mean_loss(scores, sequences)

    def _filled(self, scores: Tensor, labels: Tensor) -> Sequences:
        import torch

        numbers = labels.long().reshape(scores.shape[1], -1)
        kept, lengths = packed(numbers, numbers != self.blank, 0)
        return Sequences(kept, lengths, torch.full_like(lengths, len(scores)), self.blank)

    def _flagged(self, scores: Tensor, flags: Tensor, labels: Tensor) -> Sequences:
        rows = labels.reshape(scores.shape[:2]).t()
        within = (rows >= 0).long().cumprod(1).bool()
        numbers = (rows + 0.5).long() + (self.blank == 0)
        kept, lengths = packed(numbers, within, 0)
        return Sequences(kept, lengths, steps_of(flags.reshape(scores.shape[:2])), self.blank)

    def _counted(self, scores: Tensor, steps: Tensor, lengths: Tensor, labels: Tensor) -> Sequences:
        import torch

        rows = labels.reshape(-1, scores.shape[1]).t().long()
        counts = lengths.long().flatten()
        within = torch.arange(rows.shape[1], device=rows.device) < counts[:, None]
        return Sequences(rows.where(within, 0), counts, steps.long().flatten(), self.blank)

    def _check_shapes(self, scores: Tensor, others: Sequence[Tensor]) -> None:
        steps, streams = scores.shape[:2]
        forms: list[list[tuple[int, ...]]] = [
            [(streams, -1)],
            [(steps, streams), (steps, streams)],
            [(streams,), (streams,), (-1, streams)],
        ]
        wanted = forms[len(others) - 1]
        fits = all(
            other.dim() >= len(shape)
            and all(e in (-1, found) for e, found in zip(shape, other.shape, strict=False))
            and other.shape[len(shape) :].numel() == 1
            for other, shape in zip(others, wanted, strict=True)
        )
        self.check(
            fits,
            f"its bottoms are {', '.join(format_shape(x.shape) for x in (scores, *others))}; after "
            "scores TxNxC come labels NxL, or flags TxN and labels TxN, or N numbers of steps, N "
            "numbers of labels and labels LxN",
        )
