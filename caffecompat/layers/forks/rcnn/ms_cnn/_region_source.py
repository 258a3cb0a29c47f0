"""The base class of MS-CNN's and Cascade R-CNN's data layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from caffecompat.layers._base import Message, Shape
from caffecompat.layers._batch_source import BatchSource

if TYPE_CHECKING:
    from caffecompat.data.loader.prefetch import BatchReader
    from caffecompat.data.sources.objects.region_images import Order, RegionSettings
    from caffecompat.data.sources.objects.region_lists import RegionImage
    from caffecompat.layers._base import Array


class RegionSource(BatchSource):
    """Images of a list with boxes of objects.

    Tops: images (batch, 3, H, W), maps of labels for each stride, (batch, 6, h, w), and the blobs
    of :meth:`blobs`. A subclass sets :attr:`with_difficult` and defines the methods below it.
    Samples have the size that the first one of their batch decides.
    """

    param_fields: ClassVar[tuple[str, ...]] = ("transform_param",)
    with_difficult: ClassVar[bool] = True

    def read_settings(self, message: Message) -> RegionSettings:
        """What happens to images; refuses impossible settings."""
        raise NotImplementedError

    def listed(self, message: Message, images: list[RegionImage]) -> list[RegionImage]:
        """The images of a list as often as they are used each time through."""
        return images

    def order(self, message: Message, images: list[RegionImage]) -> Order | None:
        """The order of images each time through; None for that of the list."""
        return None

    def blobs(self, rows: Array, sizes: Array) -> list[Array]:
        """Further tops.

        Args:
            rows: (G, 8), the objects of the batch: [image, x1, y1, x2, y2, label, ignored,
                difficult].
            sizes: (batch, 2, 1, 1), height and width of each image.
        """
        raise NotImplementedError

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self._prepare(message)
        super().setup(message, bottoms)
        self.shapes = self._tops(self.shapes[0])

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        self._prepare(message)
        super().state_shapes(message, stated)
        self.shapes = self._tops(self.shapes[0])

    def _prepare(self, message: Message) -> None:
        import numpy as np

        self.reader = None  # a net that refuses the settings closes its sources
        t = message.transform_param
        self.check(not t.mean_file, "it takes mean_value, and no mean_file")
        self.check(
            len(t.mean_value) in (0, 1, 3),
            f"transform_param has {len(t.mean_value)} mean_value; give one, or three",
        )
        self.regions = self.read_settings(message)
        strides = self.regions.anchors.strides if self.regions.anchors else ()
        further = self.blobs(np.zeros((1, 8), np.float32), np.zeros((1, 2, 1, 1), np.float32))
        wanted = 1 + len(strides) + len(further)
        self.check(
            len(message.top) == wanted,
            f"it has {len(message.top)} tops, but its settings give {wanted}",
        )

    def _tops(self, image: Shape) -> list[Shape]:
        import numpy as np

        from caffecompat.data.transforms.anchor_maps import map_size

        strides = self.regions.anchors.strides if self.regions.anchors else ()
        maps = [(image[0], 6, *map_size((image[2], image[3]), stride)) for stride in strides]
        sizes = np.zeros((image[0], 2, 1, 1), np.float32)
        further = self.blobs(np.zeros((1, 8), np.float32), sizes)
        return [image, *maps, *(tuple(blob.shape) for blob in further)]

    def path(self, message: Message) -> str:
        return str(getattr(message, self.batch_param).source)

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_region_reader
        from caffecompat.data.sources.objects.region_lists import read_region_list

        p, options = getattr(message, self.batch_param), self.context.options
        found = read_region_list(p.source, self.with_difficult, options.max_bytes)
        images = self.listed(message, found)
        order = self.order(message, images)
        return open_region_reader(p, images, self.regions, order, options)

    def read(self, index: int) -> Sequence[Array]:
        import numpy as np

        batch = self._batch(index, False)
        labels: list[Any] = list(batch.labels)
        rows = [label.rows.copy() for label in labels]
        for number, own in enumerate(rows):
            own[:, 0] = number
        maps = [np.stack(found) for found in zip(*(label.maps for label in labels), strict=True)]
        sizes = np.array([label.size for label in labels], np.float32).reshape(-1, 2, 1, 1)
        return [batch.data, *maps, *self.blobs(np.concatenate(rows), sizes)]

    def read_for_gpu(self, index: int) -> Sequence[Array]:
        return self.read(index)
