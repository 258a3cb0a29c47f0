"""BoxData: the images of a list, and bounding boxes as targets of a regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, register
from caffecompat.layers._batch_source import BatchSource

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.loader.batch import Batch
    from caffecompat.data.loader.prefetch import BatchReader
    from caffecompat.data.transforms.deferred_crops import DeferredCrops
    from caffecompat.layers._base import Array


@register("BoxData")
class BoxData(BatchSource):
    """Batches of images, and for each the bounding box of an object relative to its crop.

    Tops: images (batch, C, H, W), targets (batch, 4 * classes), and the mask of the targets, of the
    same shape. A line of ``source`` is ``name label xmin ymin xmax ymax``, in pixels of the image
    file. A box is x and y of its centre, its width and its height, as fractions of the crop's width
    and height, after the crop and the flip of the image; it may reach beyond the crop. The values
    of class c begin at 4 * c. The mask is 1 at the four values of the image's class, and 0 for a
    crop that shows less than ``min_visible`` of the box; the targets are 0 where the mask is. One
    of several boxes of an image is drawn each time it is used, as a pure function of the seed and
    the sample's number in the run.

    Of ``image_data_param``, ``source``, ``root_folder``, ``batch_size``, ``shuffle`` and
    ``is_color`` are used. An extension of caffecompat; see Appendix A of the VGG paper.
    """

    tops = between(2, 3)
    batch_param = "image_data_param"
    param_fields = ("image_data_param", "transform_param")

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        from caffecompat.data.advice import missing_box_list

        return missing_box_list(message.image_data_param.source)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self._read_settings(message)
        super().setup(message, bottoms)
        self.shapes = self._with_targets(self.shapes[0])

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        self._read_settings(message)
        super().state_shapes(message, stated)
        self.shapes = self._with_targets(self.shapes[0])

    def _read_settings(self, message: Message) -> None:
        self.reader = None  # a net that refuses the settings closes its sources
        p, image = message.box_data_param, message.image_data_param
        self.classes = int(p.classes)
        self.min_visible = float(p.min_visible)
        self.check(self.classes > 0, "box_data_param: classes is 0, expected 1 or more")
        self.check(
            0 <= self.min_visible <= 1,
            f"box_data_param: min_visible is {self.min_visible:g}, expected 0 to 1, a share of the "
            "box's area",
        )
        masked = self.classes > 1 or self.min_visible > 0
        self.check(
            not masked or len(message.top) > 2,
            "box_data_param: only some of the targets take part in the loss, so the layer needs a "
            "third top, the mask",
        )
        unused = [name for name in ("new_height", "new_width", "rand_skip") if getattr(image, name)]
        them = "it" if len(unused) == 1 else "them"
        self.check(
            not unused,
            f"image_data_param: {' and '.join(unused)} cannot be used with boxes; remove {them} "
            "(img_rand_resize_lower and _upper of transform_param rescale images and boxes)",
        )

    def _with_targets(self, image: Shape) -> list[Shape]:
        targets = (image[0], 4 * self.classes)
        return [image, targets, targets][: self.count]

    def path(self, message: Message) -> str:
        return str(message.image_data_param.source)

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_box_reader

        return open_box_reader(message, self.context.phase, self.context.options)

    def shape_from_definition(self, message: Message) -> Shape:
        crop = message.transform_param.crop_size
        if not crop:
            self.refuse_unknown_shape(message, "there is no crop_size")
        return (self.rows(message), 3 if message.image_data_param.is_color else 1, crop, crop)

    def read(self, index: int) -> Sequence[Array]:
        batch = self._batch(index, False)
        return [batch.data, *self._targets(batch)][: self.count]

    def read_for_gpu(self, index: int) -> Sequence[Array | DeferredCrops]:
        batch = self._batch(index, True)
        return [batch.blob, *self._targets(batch)][: self.count]

    def _targets(self, batch: Batch) -> tuple[Array, Array]:
        from caffecompat.data.transforms.box_targets import box_targets

        return box_targets(batch.labels, self.classes, self.min_visible)
