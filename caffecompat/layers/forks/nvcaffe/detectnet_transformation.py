"""DetectNetTransformation: images and boxes of DetectNet, changed at random, and its grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register
from caffecompat.layers._batch_source import errors_at
from caffecompat.layers.forks.nvcaffe._coverage import Boxes, CoverageGrid
from caffecompat.layers.forks.nvcaffe._detectnet_images import (
    DRAWS,
    Changes,
    changed_boxes,
    changed_image,
    drawn_changes,
    unchanged,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

# Numbers of a box in the labels: x, y, width, height, angle, class, and ten others.
_OF_BOX = 16
_CLASS = 5


@register("DetectNetTransformation", fork="NVCaffe")
class DetectNetTransformation(Layer):
    """Images (N, 3, H, W) and labels as DetectNet's images and grids of coverage.

    Bottoms: levels from 0 to 255 in B, G, R, and labels (N, 1, rows, 16): a first row [number of
    boxes, 16], then rows [x, y, width, height, angle, class, ...]. Tops: images (N, 3,
    image_size_y, image_size_x), and (N, 8 + classes, image_size_y / stride, image_size_x / stride):
    foreground, the corners of the box relative to the cell (4), 1 / width and 1 / height, the
    object's norm, and which class covers the cell.

    In TEST an image is resized to the size of the top. In TRAIN ``detectnet_augmentation_param``
    says how hue and saturation change, whether it is flipped, resized, turned, and where it is
    cropped, with zeros outside of it; the choices are a pure function of the seed and the sample's
    number. ``mean_value`` or ``mean_file`` of ``transform_param`` is subtracted after colours have
    changed. Boxes follow. Cells count as covered that the middle part of a box touches: a share
    ``scale_cvg`` of its sides, with GRIDBOX_MIN at least ``min_cvg_len`` or the box, with
    GRIDBOX_MAX at most ``max_cvg_len``. The norm is the cell's area by that of this part, and at
    least 1 unless ``obj_norm``. ``object_class`` maps classes of the labels (``src``) to channels
    (``dst``); without any only class 1 counts. ``crop_bboxes`` cuts boxes at the image's edges.
    Source: NVIDIA's DetectNetTransformation layer, as it runs on a CPU.
    """

    bottoms = tops = exactly(2)
    in_place = False
    differentiable = (False,)
    fork_fields = ("detectnet_groundtruth_param", "detectnet_augmentation_param")
    param_fields = (*fork_fields, "transform_param")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.detectnet_groundtruth_param
        self.check(
            min(p.stride, p.image_size_x, p.image_size_y) > 0,
            "stride, image_size_x and image_size_y must be positive",
        )
        self.grid = CoverageGrid(p)
        self.size = (int(p.image_size_x), int(p.image_size_y))
        self.augmentation = message.detectnet_augmentation_param
        for name in ("resize_param", "noise_param"):
            self.check(
                not self.augmentation.HasField(name),
                f"detectnet_augmentation_param: {name} is not supported",
            )
        self._read_mean(message.transform_param)

    def _read_mean(self, p: Message) -> None:
        import numpy as np

        from caffecompat.weights.mean_file import read_mean

        self.mean: np.ndarray | None = None
        if p.HasField("mean_file") and not self.context.options.shapes_only:
            with errors_at(self.context.place):
                self.mean = np.ascontiguousarray(read_mean(p.mean_file).transpose(1, 2, 0))
        elif p.mean_value:
            self.check(
                len(p.mean_value) in (1, 3),
                f"transform_param has {len(p.mean_value)} mean_value; give one or three",
            )
            self.mean = np.array(p.mean_value, np.float32)

    def infer(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self._check_shapes(images, labels)
        count = len(images)
        return (
            images.new_empty((count, 3, self.size[1], self.size[0])),
            images.new_empty((count, *self.grid.shape)),
        )

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        import numpy as np
        import torch

        self._check_shapes(images, labels)
        pixels = images.detach().float().cpu().numpy().transpose(0, 2, 3, 1)
        rows = labels.detach().float().cpu().numpy().reshape(len(labels), -1, _OF_BOX)
        mean = self._mean_of(pixels.shape[1:3])
        made, grids = [], []
        for image, own, changes in zip(pixels, rows, self._changes(images), strict=True):
            boxes = self._boxes(own)
            made.append(changed_image(image, mean, changes, self.size))
            size = (image.shape[1], image.shape[0])
            places = changed_boxes(boxes.places, size, changes)
            grids.append(self.grid.table(Boxes(places, boxes.classes)))
        planes = np.ascontiguousarray(np.stack(made).transpose(0, 3, 1, 2))
        return torch.from_numpy(planes).to(images), torch.from_numpy(np.stack(grids)).to(images)

    def _changes(self, images: Tensor) -> list[Changes]:
        """What happens to each image."""
        if not self.training:
            return [unchanged(self.size)] * len(images)
        numbers = self.noise.bits(images.new_empty((len(images), DRAWS))).double() / 2**31
        size = (int(images.shape[3]), int(images.shape[2]))
        return [drawn_changes(self.augmentation, size, self.size, row) for row in numbers.tolist()]

    def _mean_of(self, plane: tuple[int, ...]) -> np.ndarray:
        """The mean for images of this height and width."""
        import numpy as np

        from caffecompat.data.codec.pixel_operations import resize_by

        if self.mean is None:
            return np.zeros(1, np.float32)
        if self.mean.ndim == 1 or self.mean.shape[:2] == plane:
            return self.mean
        found: np.ndarray = resize_by(self.mean, plane[0], plane[1], "CUBIC")
        return found

    def _boxes(self, rows: np.ndarray) -> Boxes:
        """The boxes of a sample's labels (rows, 16)."""
        import numpy as np

        count, width = int(rows[0, 0]), int(rows[0, 1])
        self.check(
            width == _OF_BOX and 0 <= count < len(rows),
            f"its labels say that there are {count} boxes of {width} numbers; expected 0 to "
            f"{len(rows) - 1} boxes of {_OF_BOX}",
        )
        found = rows[1 : 1 + count]
        return Boxes(found[:, :4], found[:, _CLASS].astype(np.int64))

    def _check_shapes(self, images: Tensor, labels: Tensor) -> None:
        per_image = labels.numel() // max(len(labels), 1)
        self.check(
            images.dim() == 4
            and images.shape[1] == 3
            and len(labels) == len(images)
            and per_image % _OF_BOX == 0
            and per_image > 0,
            f"its bottoms are {format_shape(images.shape)} and {format_shape(labels.shape)}; "
            f"expected images Nx3xHxW and labels Nx1xrowsx{_OF_BOX}",
        )
