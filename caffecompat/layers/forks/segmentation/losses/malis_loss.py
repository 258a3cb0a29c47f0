"""MalisLoss: affinities between voxels, judged by the objects that they join."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Message, Shape, between, format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._surrogate_gradient import with_gradient_of

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_SPATIAL = 3


@register("MalisLoss", fork="Caffe Neural")
class MalisLoss(Loss):
    """The mean of half of L(max(p, t), 0) over pairs of two objects and L(min(p, t), 1) of one.

    Bottoms: affinities p and their targets t (N, E, Z, Y, X), with fewer spatial axes for images;
    the objects of the voxels (N, 1, Z, Y, X), 0 for none, or (N, 2, ...) with those of the first
    and of the second term; and the offsets (E, 3) along Z, Y and X of the voxel that each of the E
    edges of a voxel leads to. Without them the edges lead to the next voxel along the last E axes.
    Tops: the loss, and the affinities again.

    A pair of voxels counts for the weakest edge of the path that joins it in the maximum spanning
    tree. L(a, b) is the sum of (a - b)^2 over these edges, each as often as it has pairs, by the
    number of all pairs of the kind. The gradient is (a - b) times the edge's part of the pairs,
    halved, for p itself whether max or min took it or not.

    The gradient of the original is right for one image and loss weight 1 only. Here it is the mean
    over the images of the batch, and follows ``loss_weight``; offsets may be negative, too.
    Source: Caffe Neural's MalisLoss layer.
    """

    bottoms = between(3, 4)
    tops = between(1, 2)
    differentiable = (True, False)
    uses_host = True
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.second = len(message.top) > 1
        self.check(
            2 < len(bottoms[0]) <= _SPATIAL + 2,
            f"the affinities are {format_shape(bottoms[0])}; they must have 3 to 5 axes",
        )
        self.check(
            len(bottoms) > _SPATIAL or bottoms[0][1] <= _SPATIAL,
            f"{bottoms[0][1]} edges of a voxel need a fourth bottom with their offsets",
        )

    def forward(self, x: Tensor, target: Tensor, objects: Tensor, *offsets: Tensor) -> Any:
        self._check_shapes(x, target, objects, *offsets)
        loss = x.new_empty(()) if x.is_meta else self._loss(x, target, objects, *offsets)
        return (loss, x.clone()) if self.second else loss

    def _loss(self, x: Tensor, target: Tensor, objects: Tensor, *offsets: Tensor) -> Tensor:
        import numpy as np
        import torch

        from caffecompat.layers.forks.segmentation.losses._malis import edges_of

        volume = (1,) * (_SPATIAL + 2 - x.dim()) + tuple(x.shape[2:])
        edges = edges_of(self._offsets(x.shape[1], *offsets), volume)
        values, wanted = (one.detach().cpu().double().numpy() for one in (x, target))
        labels = objects.detach().cpu().numpy().astype(np.int64)
        gradient = np.zeros_like(values)
        total = 0.0
        for image, row in enumerate(values):
            for positive, bound in enumerate((np.maximum, np.minimum)):
                own = labels[image, min(positive, labels.shape[1] - 1)].reshape(-1)
                part = bound(row, wanted[image]).reshape(-1)
                loss, edge_gradient = _term(part, edges, own, bool(positive))
                total += loss / 2
                gradient[image] += edge_gradient.reshape(row.shape) / 2
        passed = (x * torch.from_numpy(gradient / len(values)).to(x)).sum()
        return with_gradient_of(x.new_tensor(total / len(values)), passed)

    def _offsets(self, count: int, *offsets: Tensor) -> np.ndarray:
        """The offsets (edges, 3)."""
        import numpy as np

        if offsets:
            found: np.ndarray = offsets[0].detach().cpu().numpy().reshape(-1, _SPATIAL)
            return found[:count].astype(np.int64)
        return np.eye(_SPATIAL, dtype=np.int64)[_SPATIAL - count :]

    def _check_shapes(self, x: Tensor, target: Tensor, objects: Tensor, *offsets: Tensor) -> None:
        parts = tuple(objects.shape[:1]), tuple(objects.shape[2:])
        self.check(
            target.shape == x.shape
            and parts == (tuple(x.shape[:1]), tuple(x.shape[2:]))
            and objects.shape[1] in (1, 2),
            f"its bottoms are {format_shape(x.shape)}, {format_shape(target.shape)} and "
            f"{format_shape(objects.shape)}; expected affinities and targets of one shape, and one "
            "or two objects for each voxel",
        )
        for one in offsets:
            self.check(
                one.numel() >= x.shape[1] * _SPATIAL,
                f"the offsets are {format_shape(one.shape)}; expected three numbers for each of "
                f"{x.shape[1]} edges",
            )


def _term(
    affinities: np.ndarray, edges: Any, labels: np.ndarray, positive: bool
) -> tuple[float, np.ndarray]:
    """A term of the loss, and its gradient for the affinities (flat)."""
    import numpy as np

    from caffecompat.layers.forks.segmentation.losses._malis import joined_pairs

    pairs = joined_pairs(affinities, edges, labels)
    count, every = (pairs.same, pairs.all_same) if positive else (pairs.other, pairs.all_other)
    gradient = np.zeros_like(affinities)
    if not every:
        return 0.0, gradient
    off = affinities[pairs.places] - float(positive)
    shares = count / every
    gradient[pairs.places] = off * shares
    return float((off * off * shares).sum()), gradient
