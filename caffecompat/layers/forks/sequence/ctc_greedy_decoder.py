"""CTCGreedyDecoder: the labels of the best class of each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.layers.forks.sequence._ctc import packed, steps_of, written

if TYPE_CHECKING:
    from torch import Tensor


@register("CTCGreedyDecoder", fork="OpenVINO, ChWick")
class CTCGreedyDecoder(Layer):
    """The best class of each step, without blanks and, by default, without repetitions.

    Bottoms: scores (T, N, C); flags (T, N), 0 where a sequence begins, else 1, of which the first
    sequence of each stream is decoded; and optionally true labels (T, N) that end at the first
    negative one. Tops: the labels (N, T, 1, 1), filled with -1; then, if asked for, the sum of the
    best scores with a minus (N, 1, 1, 1); then, with true labels, one minus the mean over the
    streams of the edit distance divided by the greater length (1, 1, 1, 1). With three bottoms and
    two tops the second top is the latter; with ``dialect="openvino"`` it is the fraction of streams
    whose labels begin with the true ones. ``blank_index`` is C - 1 by default; of equal scores the
    first class is taken. No gradient. Source: the CTCGreedyDecoder layer of ChWick's Caffe.
    """

    bottoms = between(2, 3)
    tops = between(1, 3)
    in_place = False
    differentiable = (False,)
    dialects = ("openvino",)
    fork_fields = ("ctc_decoder_param",)
    param_fields = ("ctc_decoder_param",)
    batch_coupling = "has its streams along the second axis of the batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.ctc_decoder_param
        self.blank, self.merges = p.blank_index, p.ctc_merge_repeated
        self.whole = self.context.options.dialect.lower() in self.dialects
        self.judges = len(bottoms) == 3 and len(message.top) > 1
        self.scores = len(message.top) > (2 if self.judges else 1)
        self.check(
            len(message.top) < len(bottoms) + 1,
            f"it has {len(message.top)} tops; with {len(bottoms)} bottoms there can be "
            f"{len(bottoms)}",
        )

    def forward(
        self, scores: Tensor, flags: Tensor, truth: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        import torch

        self._check_shapes(scores, flags, truth)
        steps, streams, count = scores.shape
        best, classes = scores.detach().max(2)
        used = steps_of(flags.detach().reshape(steps, streams))
        inside = torch.arange(steps, device=scores.device) < used[:, None]
        writes = written(classes.t(), self.blank if self.blank >= 0 else count - 1, self.merges)
        labels, lengths = packed(classes.t(), writes & inside, -1)
        tops = [labels.to(scores.dtype).reshape(streams, steps, 1, 1)]
        if self.scores:
            total = -best.t().where(inside, 0).sum(1)
            tops.append(total.reshape(streams, 1, 1, 1))
        if self.judges and truth is not None:
            rows = truth.detach().reshape(steps, streams).t()
            within = (rows >= 0).long().cumprod(1).bool()
            wanted, counts = packed((rows + 0.5).long(), within, -2)
            score = (
                _prefixes(labels, wanted, counts)
                if self.whole
                else _likeness(labels, lengths, wanted, counts)
            )
            tops.append(score.to(scores.dtype).reshape(1, 1, 1, 1))
        return tuple(tops) if len(tops) > 1 else tops[0]

    def _check_shapes(self, scores: Tensor, flags: Tensor, truth: Tensor | None) -> None:
        others = [flags] if truth is None else [flags, truth]
        self.check(
            scores.dim() == 3
            and all(x.numel() == scores.shape[0] * scores.shape[1] for x in others),
            f"its bottoms are {', '.join(format_shape(x.shape) for x in (scores, *others))}; they "
            "must be scores TxNxC, flags TxN and labels TxN",
        )


def _prefixes(labels: Tensor, wanted: Tensor, counts: Tensor) -> Tensor:
    """The fraction of sequences that begin with the wanted labels."""
    import torch

    after = torch.arange(labels.shape[1], device=labels.device) >= counts[:, None]
    return ((labels == wanted) | after).all(1).double().mean()


def _likeness(labels: Tensor, lengths: Tensor, wanted: Tensor, counts: Tensor) -> Tensor:
    """1 - the mean of edit distance / greater length; two empty sequences have distance 0."""
    import torch

    streams, steps = labels.shape
    row = torch.arange(steps + 1, device=labels.device).expand(streams, -1)
    rows = [row]
    for i in range(steps):
        changed = row[:, :-1] + (labels[:, i : i + 1] != wanted).long()
        cells = [row[:, 0] + 1]
        for j in range(steps):
            least = torch.minimum(changed[:, j], row[:, j + 1] + 1)
            cells.append(torch.minimum(least, cells[-1] + 1))
        row = torch.stack(cells, 1)
        rows.append(row)
    table = torch.stack(rows, 1).flatten(1)
    distance = table.gather(1, (lengths * (steps + 1) + counts)[:, None]).squeeze(1)
    longest = torch.maximum(lengths, counts).clamp(min=1)
    return 1 - (distance.double() / longest).mean()
