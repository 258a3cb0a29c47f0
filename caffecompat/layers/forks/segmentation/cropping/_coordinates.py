"""Where the elements of one blob lie in another, by the layers between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from caffecompat.layers._base import Layer, Message, catalogue
from caffecompat.layers._context import Context
from caffecompat.layers._convolution_geometry import read_geometry
from caffecompat.layers.convolution import Convolution
from caffecompat.layers.deconvolution import Deconvolution
from caffecompat.layers.pooling import Pooling

# The extents of a bottom do not matter for the settings that are read.
_ANY_SHAPE = (1, 1, 1, 1)


@dataclass(frozen=True)
class AffineMap:
    """y = scale x + shift along the vertical and the horizontal axis."""

    scale: tuple[Fraction, Fraction] = (Fraction(1), Fraction(1))
    shift: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))

    def after(self, first: AffineMap) -> AffineMap:
        """The map that applies ``first`` and then this one."""
        (a, b), (c, d) = self.scale, self.shift
        return AffineMap(
            (a * first.scale[0], b * first.scale[1]),
            (a * first.shift[0] + c, b * first.shift[1] + d),
        )

    def inverse(self) -> AffineMap:
        (a, b), (c, d) = self.scale, self.shift
        return AffineMap((1 / a, 1 / b), (-c / a, -d / b))


@dataclass(frozen=True)
class Producer:
    """The layer that makes a blob, and its place in the definition."""

    index: int
    message: Message


class BlobPaths:
    """The layers of a definition by the blobs that they make.

    A blob that a later layer changes in place belongs to the first layer that has it as a top.

    Args:
        layers: the layers of the net in its state, in order.
    """

    def __init__(self, layers: Sequence[Message]) -> None:
        self._producers: dict[str, Producer] = {}
        for index, message in enumerate(layers):
            for top in message.top:
                self._producers.setdefault(top, Producer(index, message))

    def up(self, blob: str) -> Iterator[tuple[str, Message | None]]:
        """The blob and its ancestors along first bottoms, each with the layer that makes it."""
        while True:
            producer = self._producers.get(blob)
            if producer is None or not producer.message.bottom:
                yield blob, None
                return
            yield blob, producer.message
            blob = producer.message.bottom[0]


def alignment(asker: Layer, paths: BlobPaths, first: str, second: str) -> AffineMap:
    """The map from positions in the blob ``first`` to positions in the blob ``second``.

    Both blobs are followed to their nearest common ancestor along first bottoms.

    Raises:
        LayerError: there is none, or a layer on the way has no such map.
    """
    above = [blob for blob, _ in paths.up(first)]
    common = next((blob for blob, _ in paths.up(second) if blob in above), None)
    if common is None:
        asker.refuse(
            f"the blobs {first!r} and {second!r} have no common ancestor along first bottoms, so "
            "their planes cannot be aligned; use a Crop layer with offset"
        )
    from_common = [_from_ancestor(asker, paths, blob, common) for blob in (first, second)]
    return from_common[1].after(from_common[0].inverse())


def _from_ancestor(asker: Layer, paths: BlobPaths, blob: str, ancestor: str) -> AffineMap:
    """The map from positions in ``ancestor`` to positions in ``blob``."""
    total = AffineMap()
    for name, message in paths.up(blob):
        if name == ancestor or message is None:
            break
        total = total.after(_across(asker, paths, message))
    return total


def _across(asker: Layer, paths: BlobPaths, message: Message) -> AffineMap:
    """The map from positions in a layer's first bottom to positions in its top."""
    kind = catalogue.choose(message, asker.context.options.dialect, asker.context.place)
    layer = kind(Context(asker.context.phase, f"{asker.context.place}: {message.name!r}"))
    if issubclass(kind, (Convolution, Deconvolution)):
        geometry = read_geometry(layer, message.convolution_param, _ANY_SHAPE)
        window = _window(geometry.kernel_extent, geometry.stride, geometry.pad)
        return window if issubclass(kind, Deconvolution) else window.inverse()
    if issubclass(kind, Pooling):
        pooling = Pooling(layer.context)
        pooling.setup(message, [_ANY_SHAPE])
        if pooling.kernel is not None:
            return _window(pooling.kernel, pooling.stride, pooling.pad).inverse()
    crop = getattr(kind, "offsets_by", None)
    if crop is not None:
        top, left = crop(asker, paths, message)
        return AffineMap(shift=(Fraction(-top), Fraction(-left)))
    asker.check(
        kind.pointwise,
        f"the planes of its bottoms cannot be aligned across layer {message.name!r} "
        f"({message.type}); use a Crop layer with offset",
    )
    return AffineMap()


def _window(kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> AffineMap:
    """From positions of windows to the centres of the windows."""
    middle = [Fraction(extent - 1, 2) - margin for extent, margin in zip(kernel, pad, strict=True)]
    return AffineMap((Fraction(stride[0]), Fraction(stride[1])), (middle[0], middle[1]))
