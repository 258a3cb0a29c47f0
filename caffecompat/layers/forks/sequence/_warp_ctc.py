"""The loss that Baidu's warp-ctc computes, in which impossible sequences do not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._bad_index import explaining_bad_index
from caffecompat.layers._loss import Loss
from caffecompat.layers.forks.sequence._ctc import Sequences, negative_log_likelihood

if TYPE_CHECKING:
    from torch import Tensor


class WarpCTC(Loss):
    """The base class of the losses that use warp-ctc; all of them are means over the streams."""

    batch_coupling = "has its streams along the second axis of the batch"

    def mean_loss(self, scores: Tensor, sequences: Sequences) -> Tensor:
        """The mean over N streams; a sequence that the steps do not suffice for has loss 0."""
        losses = negative_log_likelihood(scores, sequences)
        return losses.where(losses.detach().isfinite(), 0).mean()

    def check_labels(self, scores: Tensor, labels: Tensor) -> None:
        """Refuses, on a CPU, labels that are no class of ``scores`` (T, N, C)."""
        classes = scores.shape[2]
        sentence = f"a label lies outside 0 to {classes - 1}, the classes of its scores"
        with explaining_bad_index(self, sentence):
            scores.detach()[0, 0].gather(0, labels.flatten())
