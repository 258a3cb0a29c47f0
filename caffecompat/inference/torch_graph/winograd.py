"""3x3 convolutions with a quarter of the products: Winograd's F(4x4, 3x3).

For each tile of 4x4 outputs, 6x6 inputs and the kernel become 36 numbers each, whose products,
summed over the channels, are 36 numbers that become the 16 outputs. The sums over channels are 36
matrix products. All three changes are linear in one axis of 6 at a time; they are polynomials at
five points and infinity (Lavin and Gray, 2015; Toom and Cook).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import prod

import torch
import torch.nn.functional as F
from torch import nn

from caffecompat.inference.torch_graph.single_threads import SingleThreads
from caffecompat.inference.torch_graph.weighted import Weighted, check_terms
from caffecompat.layers import Shape
from caffecompat.layers.convolution import Convolution

OUTPUTS, KERNEL = 4, 3
INPUTS = OUTPUTS + KERNEL - 1
# The usual points 0, 1, -1, 2, -2 make additions; these, for which the changes are matrix products,
# have a fifth of their rounding errors.
POINTS = (0.0, 0.65, -0.65, 1.5, -1.5)

# Below these, the changes cost more than the products that are saved: tiles in a pass, and
# channels (the product of bottom's and top's over their sum).
LEAST_TILES = 36
LEAST_CHANNELS = 40
# How many tiles are in work at a time, for few channels and for more: their numbers are to stay in
# a core's cache between the steps, and each step is to have enough work for several threads.
TILES_AT_A_TIME, TILES_OF_MANY_CHANNELS = 128, 256
FEW_CHANNELS = 128


def saves_time(weighted: Weighted, shape: Shape | None) -> bool:
    """Whether a convolution of bottoms of this shape is faster so.

    The rule is from measurements. With AVX-512 products are twice as fast and memory is not: with
    one thread the time beside that of oneDNN's sums was there 0.6 to 1.0 from 128 and 256 channels
    on, 0.8 to 1.1 with 128 and 128, and 1.2 to 2 with 64 and 64.
    """
    layer = weighted.layer
    if not isinstance(layer, Convolution) or shape is None or len(shape) != 4:
        return False
    g = layer.geometry
    if g.kernel != (KERNEL, KERNEL) or g.stride != (1, 1) or g.dilation != (1, 1):
        return False
    if g.sides is not None or layer.group > 1 or weighted.weight.dtype != torch.float32:
        return False
    extents = [size + 2 * pad - KERNEL + 1 for size, pad in zip(shape[2:], g.pad, strict=True)]
    if min(extents) < OUTPUTS:
        return False
    tiles = shape[0] * prod(-(-extent // OUTPUTS) for extent in extents)
    channels = layer.channels * layer.outputs / (layer.channels + layer.outputs)
    if torch.cpu._is_avx512_supported():
        channels /= 2
    return tiles >= LEAST_TILES and channels >= LEAST_CHANNELS


class WinogradConvolution(nn.Module):
    """activation(convolution(x) + other) with a kernel of 3x3 and stride 1, in single precision.

    Args:
        weighted: what it computes.
        threads: those that compute some tiles each.
    """

    def __init__(self, weighted: Weighted, threads: SingleThreads) -> None:
        super().__init__()
        self._threads = threads
        layer = weighted.layer
        assert isinstance(layer, Convolution)
        self._layer = layer
        self._pad = layer.geometry.pad
        self._outputs = layer.outputs
        kernel, self._to_inputs, self._to_outputs = matrices()
        changed = torch.einsum("ai,bj,ocji->abco", kernel, kernel, weighted.weight.double())
        self._weight = changed.float().reshape(INPUTS**2, layer.channels, layer.outputs)
        self._weight = self._weight.contiguous()
        self._bias = weighted.bias
        self._activation = weighted.activation
        self.names = weighted.names

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        self._layer._check_shapes([x.shape])
        self._layer.geometry.extra_padding(self._layer, x.shape)
        height, width = (
            size + 2 * pad - KERNEL + 1 for size, pad in zip(x.shape[2:], self._pad, strict=True)
        )
        tops = x.new_empty(x.shape[0], *_whole(height, width), self._outputs)
        self._convolve(self._padded(x, height, width), tops, activates=other is None)
        y = tops[:, :height, :width].permute(0, 3, 1, 2)
        if other is None:
            return y
        check_terms(y.shape, other.shape)
        y.add_(other)
        return self._activation.in_place(y) if self._activation is not None else y

    def _padded(self, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """(N, H, W, C) with the padding, and zeros up to whole tiles."""
        rows, columns = _whole(height, width)
        (top, left), (own_rows, own_columns) = self._pad, x.shape[2:]
        below = rows + KERNEL - 1 - own_rows - top
        right = columns + KERNEL - 1 - own_columns - left
        return F.pad(x.permute(0, 2, 3, 1), (0, 0, left, right, top, below))

    def _convolve(self, padded: torch.Tensor, tops: torch.Tensor, activates: bool) -> None:
        """Fills ``tops`` (N, H, W, O), some images or some rows of tiles at a time.

        Args:
            activates: with the activation.
        """
        images, rows, columns = len(tops), tops.shape[1] // OUTPUTS, tops.shape[2] // OUTPUTS
        few = max(padded.shape[3], self._outputs) <= FEW_CHANNELS
        tiles = TILES_AT_A_TIME if few else TILES_OF_MANY_CHANNELS
        at_a_time = max(1, tiles // (rows * columns))
        rows_at_a_time = rows if rows * columns <= tiles else tiles // columns
        rows_at_a_time = max(1, rows_at_a_time)
        activation = self._activation if activates else None

        def work(start: tuple[int, int]) -> None:
            image, row = start
            begin, end = OUTPUTS * row, OUTPUTS * min(rows, row + rows_at_a_time)
            these = slice(image, image + at_a_time)
            part = tops[these, begin:end]
            self._convolve_tiles(padded[these, begin : end + KERNEL - 1], part)
            if activation is not None:
                activation.in_place(part)

        starts = product(range(0, images, at_a_time), range(0, rows, rows_at_a_time))
        self._threads.for_each(work, list(starts))

    def _convolve_tiles(self, padded: torch.Tensor, tops: torch.Tensor) -> None:
        images, rows, columns = len(tops), tops.shape[1] // OUTPUTS, tops.shape[2] // OUTPUTS
        count, outputs = images * rows * columns, self._outputs
        lines = rows * INPUTS * padded.stride(1)
        # Each step reads one buffer and fills the other.
        one, two = self._threads.buffers(
            2, max(INPUTS**2 * count * max(padded.shape[3], outputs), lines)
        )
        changed, free = self._changed(padded, (images, rows, columns), one, two)
        used = one if free is two else two
        products = _part(free, INPUTS**2, count, outputs)
        torch.bmm(changed, self._weight, out=products)
        # Along the axis across, then along the axis down.
        across = _part(used, OUTPUTS, INPUTS * count * outputs)
        torch.mm(self._to_outputs, products.view(INPUTS, -1), out=across)
        found = _part(free, OUTPUTS, OUTPUTS, count * outputs)
        matrix = self._to_outputs.expand(OUTPUTS, OUTPUTS, INPUTS)
        torch.bmm(matrix, across.view(OUTPUTS, INPUTS, -1), out=found)
        found = found.view(OUTPUTS, OUTPUTS, images, rows, columns, outputs)
        target = tops.unflatten(1, (rows, OUTPUTS)).unflatten(3, (columns, OUTPUTS))
        source = found.permute(2, 3, 1, 4, 0, 5)
        if self._bias is None:
            target.copy_(source)
        else:
            torch.add(source, self._bias, out=target)

    def _changed(
        self,
        padded: torch.Tensor,
        extents: tuple[int, int, int],
        one: torch.Tensor,
        two: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The tiles of (N, H, W, C) as (across * down, tiles, C), and the buffer that is free.

        Args:
            extents: images, rows of tiles and columns of tiles.
        """
        images, rows, columns = extents
        channels, count = padded.shape[3], images * rows * columns
        image, down, across, _ = padded.stride()
        matrix = self._to_inputs
        if images == 1:
            # Lines of whole images change before they are cut into tiles, which overlap.
            lines = padded.as_strided((rows, INPUTS, down), (OUTPUTS * down, down, 1))
            made = _part(two, rows, INPUTS, down)
            torch.bmm(matrix.expand(rows, INPUTS, INPUTS), lines, out=made)
            tiles = made.as_strided(
                (INPUTS, INPUTS, rows, columns, channels),
                (across, down, INPUTS * down, OUTPUTS * across, 1),
            )
            cut = _part(one, *tiles.shape).copy_(tiles)
            changed = _part(two, INPUTS**2, count, channels)
            torch.mm(matrix, cut.view(INPUTS, -1), out=changed.view(INPUTS, -1))
            return changed, one
        tiles = padded.as_strided(
            (INPUTS, INPUTS, images, rows, columns, channels),
            (across, down, image, OUTPUTS * down, OUTPUTS * across, 1),
        )
        cut = _part(one, *tiles.shape).copy_(tiles)
        half = _part(two, INPUTS, INPUTS * count * channels)
        torch.mm(matrix, cut.view(INPUTS, -1), out=half)
        changed = _part(one, INPUTS, INPUTS, count * channels)
        torch.bmm(matrix.expand(INPUTS, INPUTS, INPUTS), half.view(INPUTS, INPUTS, -1), out=changed)
        return changed.view(INPUTS**2, count, channels), two

    def extra_repr(self) -> str:
        return ", ".join(self.names)


def _part(buffer: torch.Tensor, *shape: int) -> torch.Tensor:
    """The first numbers of a buffer, in a shape."""
    return buffer[: prod(shape)].view(shape)


def _whole(height: int, width: int) -> tuple[int, int]:
    """Extents rounded up to whole tiles."""
    return -(-height // OUTPUTS) * OUTPUTS, -(-width // OUTPUTS) * OUTPUTS


@lru_cache(maxsize=1)
def matrices() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What changes a kernel (6 x 3, double), inputs (6 x 6) and sums (4 x 6) along one axis."""
    points = torch.tensor(POINTS, dtype=torch.float64)
    kernel = torch.zeros(INPUTS, KERNEL, dtype=torch.float64)
    inputs = torch.zeros(INPUTS, INPUTS, dtype=torch.float64)
    outputs = torch.zeros(OUTPUTS, INPUTS, dtype=torch.float64)
    for i, point in enumerate(points):
        others = torch.cat([points[:i], points[i + 1 :]])
        kernel[i] = point ** torch.arange(KERNEL) / (point - others).prod()
        inputs[i, :-1] = _polynomial(others)
        outputs[:, i] = point ** torch.arange(OUTPUTS)
    kernel[-1, -1] = outputs[-1, -1] = 1
    inputs[-1] = _polynomial(points)
    return kernel, inputs.float(), outputs.float()


def _polynomial(roots: torch.Tensor) -> torch.Tensor:
    """The coefficients of the product of (x - root), that of 1 first."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        shifted = F.pad(coefficients, (1, 0))
        coefficients = shifted - root * F.pad(coefficients, (0, 1))
    return coefficients
