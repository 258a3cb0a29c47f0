"""Connectionist temporal classification: the probability of a label sequence, and collapsing.

Graves, "Supervised Sequence Labelling with Recurrent Neural Networks" (2012), chapter 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.layers._repeatable_gradients import gathered

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """N label sequences, each with the number of steps in which it has to be written.

    Attributes:
        labels: (N, L), int64; only the first ``lengths`` count.
        lengths: (N,), int64.
        steps: (N,), int64.
        blank: the label of a step that writes nothing.
        merges: equal labels of neighbouring steps are one label.
    """

    labels: Tensor
    lengths: Tensor
    steps: Tensor
    blank: int
    merges: bool = True


def negative_log_likelihood(scores: Tensor, sequences: Sequences) -> Tensor:
    """-log p(sequence) for each of N streams.

    Args:
        scores: (T, N, C) before a softmax over the classes.
        sequences: the N sequences; at most T steps.

    Returns:
        (N,); infinite where the steps do not suffice.
    """
    import torch

    extended = _with_blanks(sequences)
    index = extended.expand(len(scores), *extended.shape)
    logs = gathered(scores.log_softmax(2), 2, index)
    never = _log_zero(scores)
    skips = _may_skip(extended, sequences)
    stays = torch.ones_like(skips) if sequences.merges else extended == sequences.blank
    first = torch.arange(extended.shape[1], device=scores.device) < 2
    inside = torch.arange(extended.shape[1], device=scores.device) <= 2 * sequences.lengths[:, None]
    alpha = logs[0].where(first & inside, never)
    for t in range(1, len(scores)):
        before = torch.stack(
            (
                alpha.where(stays, never),
                _shifted(alpha, 1, never),
                _shifted(alpha, 2, never).where(skips, never),
            )
        )
        following = (before.logsumexp(0) + logs[t]).where(inside, never)
        alpha = following.where((t < sequences.steps)[:, None], alpha)
    last = 2 * sequences.lengths[:, None]
    ends = torch.cat(
        (
            alpha.gather(1, last),
            alpha.gather(1, (last - 1).clamp(min=0)).where(last > 0, never),
        ),
        1,
    )
    total = -ends.logsumexp(1)
    return total.where(total < -0.5 * never, float("inf"))


def _log_zero(like: Tensor) -> Tensor:
    """A logarithm of nothing that, unlike minus infinity, leaves no NaN in gradients."""
    return like.new_full((), -1e30)


def _with_blanks(sequences: Sequences) -> Tensor:
    """(N, 2 L + 1): a blank before each label and one at the end."""
    labels = sequences.labels
    extended = labels.new_full((labels.shape[0], 2 * labels.shape[1] + 1), sequences.blank)
    extended[:, 1::2] = labels
    return extended


def _may_skip(extended: Tensor, sequences: Sequences) -> Tensor:
    """Where the blank before a label may be left out."""
    skips = extended != sequences.blank
    if sequences.merges:
        skips = skips & (extended != extended.roll(2, 1))
    skips[:, :2] = False
    return skips


def _shifted(alpha: Tensor, by: int, fill: Tensor) -> Tensor:
    import torch

    return torch.cat((fill.expand(len(alpha), by), alpha[:, :-by]), 1)


def packed(values: Tensor, kept: Tensor, fill: int) -> tuple[Tensor, Tensor]:
    """The kept values of each row, moved to its front; the rest is ``fill``.

    Args:
        values, kept: (N, L).

    Returns:
        (N, L), and the number of kept values (N,).
    """
    import torch

    order = kept.long().cumsum(1)
    # A column that is cut off afterwards takes the values that are not kept.
    target = torch.where(kept, order - 1, values.shape[1])
    room = values.new_full((values.shape[0], values.shape[1] + 1), fill)
    moved = room.scatter(1, target, values)[:, :-1]
    return moved, kept.long().sum(1)


def written(classes: Tensor, blank: int, merges: bool) -> Tensor:
    """Where a step writes its class (N, T): no blank, and with ``merges`` no repetition."""
    import torch

    writes = classes != blank
    if not merges:
        return writes
    before = torch.cat((torch.full_like(classes[:, :1], -1), classes[:, :-1]), 1)
    return writes & (classes != before)


def steps_of(flags: Tensor) -> Tensor:
    """The steps (N,) of the first sequence of each stream: up to the first 0 after the start.

    Args:
        flags: (T, N), 0 where a sequence begins, else 1.
    """
    going_on = (flags[1:] + 0.5).long() != 0
    return 1 + going_on.long().cumprod(0).sum(0)
