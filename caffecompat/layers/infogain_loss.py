"""InfogainLoss: the logistic loss with a matrix of costs of confusions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import ALONG_BATCH, Message, Shape, between, format_shape, register
from caffecompat.layers._batch_source import errors_at
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._device_copies import DeviceCopies
from caffecompat.layers._loss import PRE_FIXED_FIELDS, ClassScores, Loss, Normalization

if TYPE_CHECKING:
    from torch import Tensor

# The loss clamps probabilities at 1e-20.
_MIN_LOG_PROBABILITY = log(1e-20)


@register("InfogainLoss")
class InfogainLoss(Loss):
    """-sum(H[label, k] log p_k) / divisor over all classes k, where p is the softmax of the scores.

    Bottoms: scores with classes along ``infogain_loss_param.axis``, a label per position, and
    optionally H (classes x classes; rows are true labels). Without the third bottom, the file
    ``source`` (a BlobProto) holds H. Divisor: see :class:`Normalization`; the old ``normalize`` is
    refused. The loss clamps p at 1e-20, the gradient does not. A second top holds p; its gradient
    is ignored. Source: Caffe's InfogainLoss layer.
    """

    param_fields = ("loss_param",)
    fork_fields = PRE_FIXED_FIELDS
    bottoms = between(2, 3)
    tops = between(1, 2)
    differentiable = (True, False, False)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.infogain_loss_param
        self._given = p.axis
        self.along = self.axis(p.axis, bottoms[0])
        self.check(
            not message.loss_param.HasField("normalize"),
            "loss_param has normalize, which this type refuses; use normalization",
        )
        self.batch_coupling = ALONG_BATCH if self.along == 0 else None
        self.normalization = Normalization(message.loss_param)
        self.loss_reduction = self.normalization.reduction()
        self.class_labels = ClassLabels(bottoms[0][self.along], self.normalization.ignore)
        self.probabilities = len(message.top) > 1
        self._sum_of_costs = _sum_of_costs()
        if len(bottoms) == 2:
            self.check(
                p.HasField("source"),
                "the infogain matrix is missing; give a third bottom or infogain_loss_param.source",
            )
            with errors_at(self.context.place):
                self.matrix = DeviceCopies(_read_matrix(p.source))

    def forward(
        self, scores: Tensor, labels: Tensor, matrix: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        self.check_batch(scores, labels)
        along = self.axis(self._given, scores.shape)
        view = ClassScores(self, scores, labels, along, self.normalization.ignore)
        cost = self._cost(view, matrix)
        with view.naming_bad_labels(self):
            rows = cost.index_select(0, view.labels.flatten())
        rows = rows.view(*view.labels.squeeze(1).shape, view.classes).movedim(-1, 1)
        if view.kept is not None:
            rows = rows * view.kept
        total = self._sum_of_costs(view.scores.log_softmax(1, dtype=view.exact), rows)
        loss = total / self.normalization.divisor(view.outer, view.inner, view.kept)
        if self.probabilities:
            return loss, scores.detach().softmax(along)
        return loss

    def _cost(self, view: ClassScores, matrix: Tensor | None) -> Tensor:
        """H as (classes, classes) on the device of the scores."""
        if matrix is None:
            matrix = self.matrix.on(view.scores.device, view.exact)
        self.check(
            matrix.numel() == view.classes**2,
            f"the infogain matrix is {format_shape(matrix.shape)}, but there are {view.classes} "
            "classes",
        )
        return matrix.detach().reshape(view.classes, view.classes)


def _sum_of_costs() -> Callable[[Tensor, Tensor], Tensor]:
    """-sum(rows log p) as a function of log p and rows of H, both (outer, classes, ...).

    It has its own gradient, because Caffe's gradient ignores the clamp.
    """
    import torch

    class SumOfCosts(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, log_p: Tensor, rows: Tensor) -> Tensor:
            ctx.save_for_backward(rows)
            return -log_p.clamp(min=_MIN_LOG_PROBABILITY).mul_(rows).sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, None]:
            (rows,) = ctx.saved_tensors
            return rows * -diff, None

    return SumOfCosts.apply


def _read_matrix(path: str) -> Tensor:
    import torch

    from caffecompat.proto.files import read_binary

    blob = read_binary(path, "BlobProto")
    return torch.tensor(list(blob.double_data or blob.data), dtype=torch.float32)
