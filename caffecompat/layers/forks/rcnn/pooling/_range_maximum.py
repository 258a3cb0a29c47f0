"""Maxima over rectangles of any size, each from four values of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._repeatable_gradients import gathered

if TYPE_CHECKING:
    from torch import Tensor

# Elements of the table that are held at once; channels are done in parts of this size.
_TABLE_ELEMENTS = 2**25


def rectangle_maxima(
    maps: Tensor, image: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]
) -> Tensor:
    """The maximum of each channel in each rectangle; the gradient goes to its first maximum.

    The first one is that in the upper row, and in this row the left one. An empty rectangle has
    the value 0 and no gradient.

    A table holds the maxima of all rectangles whose sides are powers of two. A rectangle of any
    size is the union of four of those, which may overlap. So nothing depends on the sizes: no loop
    runs over them, and no value has to reach the host.

    Args:
        maps: (N, C, H, W).
        image: (R) int64, the map of each group of rectangles.
        rows: first row (R, A) and the row after the last (R, A), int64, within 0 to H.
        columns: first column (R, B) and the column after the last (R, B), within 0 to W.

    Returns:
        (R, C, A, B).
    """
    import torch

    n, c, h, w = maps.shape
    levels = h.bit_length() * w.bit_length()
    share = max(1, _TABLE_ELEMENTS // max(1, levels * n * h * w))
    corners, empty = _corners(maps.shape, image, rows, columns)
    parts = [
        _maxima_of_channels(maps[:, at : at + share], image, corners) for at in range(0, c, share)
    ]
    tops = torch.cat(parts, 1) if parts else maps.new_zeros(len(image), 0, *empty.shape[1:])
    return tops.masked_fill(empty.unsqueeze(1), 0)


def _corners(
    shape: tuple[int, ...],
    image: Tensor,
    rows: tuple[Tensor, Tensor],
    columns: tuple[Tensor, Tensor],
) -> tuple[list[Tensor], Tensor]:
    """Four positions (R, A, B) in the flat table for each rectangle, and which are empty."""
    n, _, h, w = shape
    down, first, last = _spans(rows, h)
    across, left, right = _spans(columns, w)
    level = down.unsqueeze(2) * w.bit_length() + across.unsqueeze(1)
    base = (level * n + image[:, None, None]) * h * w
    corners = [
        base + y.unsqueeze(2) * w + x.unsqueeze(1) for y in (first, last) for x in (left, right)
    ]
    empty = (rows[1] <= rows[0]).unsqueeze(2) | (columns[1] <= columns[0]).unsqueeze(1)
    return corners, empty


def _spans(bounds: tuple[Tensor, Tensor], extent: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each range the exponent of a power of two, and the starts of two such spans in it."""
    import torch

    start, stop = bounds
    length = (stop - start).clamp(min=1)
    exponent = torch.zeros_like(length)
    for power in range(1, extent.bit_length()):
        exponent = exponent + (length >= 2**power)
    start = start.clamp(max=extent - 1)
    return exponent, start, torch.maximum(stop - (1 << exponent), start)


def _maxima_of_channels(maps: Tensor, image: Tensor, corners: list[Tensor]) -> Tensor:
    """The maxima (R, C, A, B) of the rectangles at ``corners``."""
    import torch

    n, c, h, w = maps.shape
    inner = maps.detach().permute(0, 2, 3, 1).contiguous()
    flat_corners = [corner.reshape(-1) for corner in corners]
    if not (torch.is_grad_enabled() and maps.requires_grad):
        value, _ = _table(inner, None)
        best = value[flat_corners[0]]
        for at in flat_corners[1:]:
            best = torch.maximum(best, value[at])
        return best.reshape(*corners[0].shape, c).permute(0, 3, 1, 2)
    places = torch.arange(h * w, device=maps.device).reshape(1, h, w, 1).expand(n, h, w, c)
    value, place = _table(inner, places)
    assert place is not None
    found = (value[flat_corners[0]], place[flat_corners[0]])
    for at in flat_corners[1:]:
        found = _first_maximum(found, (value[at], place[at]))
    offset = (image * (h * w))[:, None, None].expand(corners[0].shape).reshape(-1, 1)
    flat = maps.permute(0, 2, 3, 1).reshape(n * h * w, c)
    chosen = gathered(flat, 0, found[1] + offset)
    return chosen.reshape(*corners[0].shape, c).permute(0, 3, 1, 2)


def _table(maps: Tensor, places: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Maxima, and positions of the first ones, over spans of 2^i rows and 2^j columns.

    ``maps`` is (N, H, W, C); the tables are (i, j, N, H, W) flattened, by C. A span that reaches
    beyond the map is cut.
    """
    import torch

    _, h, w, c = maps.shape
    values, indices = [], []
    down: tuple[Tensor, Tensor | None] = (maps, places)
    for i in range(h.bit_length()):
        if i:
            down = _joined(down, 1, 2 ** (i - 1))
        across = down
        for j in range(w.bit_length()):
            if j:
                across = _joined(across, 2, 2 ** (j - 1))
            values.append(across[0])
            if across[1] is not None:
                indices.append(across[1])
    index = torch.stack(indices).reshape(-1, c) if indices else None
    return torch.stack(values).reshape(-1, c), index


def _joined(
    table: tuple[Tensor, Tensor | None], axis: int, step: int
) -> tuple[Tensor, Tensor | None]:
    """The maximum of each span and of the one ``step`` further along ``axis``, if there is one."""
    import torch

    value, place = table
    extent = value.shape[axis]
    near = value.narrow(axis, 0, max(0, extent - step))
    far = value.narrow(axis, min(step, extent), max(0, extent - step))
    rest = value.narrow(axis, max(0, extent - step), min(step, extent))
    if place is None:
        return torch.cat([torch.maximum(near, far), rest], axis), None
    near_place = place.narrow(axis, 0, max(0, extent - step))
    far_place = place.narrow(axis, min(step, extent), max(0, extent - step))
    rest_place = place.narrow(axis, max(0, extent - step), min(step, extent))
    joined, first = _first_maximum((near, near_place), (far, far_place))
    return torch.cat([joined, rest], axis), torch.cat([first, rest_place], axis)


def _first_maximum(
    one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The larger value with its position; of equal ones the smaller position."""
    greater = other[0] > one[0]
    earlier = (other[0] == one[0]) & (other[1] < one[1])
    take = greater | earlier
    return other[0].where(take, one[0]), other[1].where(take, one[1])
