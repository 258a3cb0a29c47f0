"""Mean field inference in a fully connected CRF, as a recurrent net (CRF-RNN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape
from caffecompat.layers.forks.segmentation.crf._permutohedral import PermutohedralLattice
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_TINY = 1e-20


class Meanfield(Layer):
    """``num_iterations`` steps of mean field inference.

    Bottoms: unary scores (N, C, H, W), first scores in the same shape, and the image (N, 3, H, W);
    top: scores (N, C, H, W), not normalised. Each step is::

        q = softmax(scores)
        message = W_s spatial(q) + W_b bilateral(q)
        scores = unary - compatibility message

    Both filters are Gaussian on a permutohedral lattice and divided by the filtered ones: spatial
    over positions divided by ``theta_gamma``, bilateral over positions divided by ``theta_alpha``
    and pixel values divided by ``theta_beta``. Parameters, each (1, 1, C, C): W_s and W_b, at first
    ``spatial_filter_weight`` and ``bilateral_filter_weight`` on the diagonal (CRF-RNN reads them
    from files called spatial.par and bilateral.par instead), and the compatibility, at first -1 on
    the diagonal. ``compatibility_mode`` POTTS is that, and ``threshold`` has no effect. The image
    gets no gradient. Source: the MultiStageMeanfield layer of CRF-RNN; Zheng et al. (2015).
    """

    bottoms = exactly(3)
    in_place = False
    differentiable = (True, True, False)
    parameters = ("spatial_weight", "bilateral_weight", "compatibility")
    fork_fields = ("multi_stage_meanfield_param",)
    param_fields = ("multi_stage_meanfield_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        import numpy as np

        p = message.multi_stage_meanfield_param
        self.iterations = p.num_iterations
        self.check(self.iterations > 1, f"num_iterations is {p.num_iterations}, expected 2 or more")
        self.thetas = (p.theta_alpha, p.theta_beta, p.theta_gamma)
        self.check(min(self.thetas) > 0, "theta_alpha, theta_beta and theta_gamma must be positive")
        self.check(
            len(bottoms[0]) == 4 and len(bottoms[2]) == 4,
            f"its bottoms are {', '.join(map(format_shape, bottoms))}; they must be scores, scores "
            "and images, all NxCxHxW",
        )
        diagonal = np.eye(bottoms[0][1], dtype=np.float32)
        self._square("spatial_weight", p.spatial_filter_weight * diagonal)
        self._square("bilateral_weight", p.bilateral_filter_weight * diagonal)
        self._square("compatibility", -diagonal)

    def _square(self, name: str, values: np.ndarray) -> None:
        shape = (1, 1, *values.shape)
        self.parameter(name, shape, new("FillerParameter"), values=values.reshape(shape))

    def infer(self, unary: Tensor, first: Tensor, image: Tensor, **parameters: Tensor) -> Tensor:
        self._check_shapes(unary, first, image)
        return unary.new_empty(unary.shape)

    def forward(
        self,
        unary: Tensor,
        first: Tensor,
        image: Tensor,
        *,
        spatial_weight: Tensor,
        bilateral_weight: Tensor,
        compatibility: Tensor,
    ) -> Tensor:
        import torch

        self._check_shapes(unary, first, image)
        w_s, w_b, mu = (p.flatten(0, 2) for p in (spatial_weight, bilateral_weight, compatibility))
        spatial = _Filter(_positions(image) / self.thetas[2], unary)
        tops = []
        for n in range(unary.shape[0]):
            bilateral = _Filter(self._bilateral_features(image[n].detach()), unary)
            own, scores = unary[n].flatten(1), first[n].flatten(1)
            for _ in range(self.iterations):
                q = scores.softmax(0)
                scores = own - mu @ (w_s @ spatial(q) + w_b @ bilateral(q))
            tops.append(scores.view_as(unary[n]))
        return torch.stack(tops)

    def _bilateral_features(self, image: Tensor) -> Tensor:
        """(H W, 5): column, row and three pixel values, each divided by its theta."""
        import torch

        colours = image.float().flatten(1).t() / self.thetas[1]
        return torch.cat((_positions(image) / self.thetas[0], colours), 1)

    def _check_shapes(self, unary: Tensor, first: Tensor, image: Tensor) -> None:
        n, _, height, width = unary.shape
        self.check(
            first.shape == unary.shape and image.shape == (n, 3, height, width),
            f"its bottoms are {', '.join(format_shape(x.shape) for x in (unary, first, image))}; "
            f"for scores {format_shape(unary.shape)} it takes scores in the same shape and an "
            f"image {n}x3x{height}x{width}",
        )


class _Filter:
    """A filter on one lattice, divided by the filtered ones."""

    def __init__(self, features: Tensor, like: Tensor) -> None:
        self._lattice = PermutohedralLattice(features)
        ones = like.new_ones(1, len(features))
        self._norm = 1 / (self._lattice.filter(ones) + _TINY)

    def __call__(self, q: Tensor) -> Tensor:
        return self._lattice.filter(q) * self._norm


def _positions(image: Tensor) -> Tensor:
    """(H W, 2): column and row of each pixel, float32."""
    import torch

    height, width = image.shape[-2:]
    rows = torch.arange(height, dtype=torch.float32, device=image.device)
    columns = torch.arange(width, dtype=torch.float32, device=image.device)
    grid = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((grid[1], grid[0]), -1).flatten(0, 1)
