"""RoIDataLayer of py-faster-rcnn: images with their objects, one in each pass."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Message, Shape, between
from caffecompat.layers._batch_source import errors_at
from caffecompat.layers._param_str import parse_param_str
from caffecompat.layers._python_equivalent import (
    REQUIRED,
    PythonEquivalent,
    register_python_layer,
)
from caffecompat.layers._source import Source
from caffecompat.layers.forks.rcnn.faster_rcnn._rfcn_nets import is_of_rfcn

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.sources.objects.object_images import ObjectImage
    from caffecompat.layers._base import Array

# Tops with a region proposal network: data, im_info, gt_boxes.
_WITH_PROPOSALS = 3


@register_python_layer(("roi_data_layer.layer", "RoIDataLayer"), fork="py-faster-rcnn")
class RoIDataLayer(PythonEquivalent, Source):
    """Images with their objects, one in each pass, in a new random order each time through.

    Tops: the image (1, 3, H, W), B, G and R; [[H, W, scale]]; and objects (G, 5) with rows
    [x1, y1, x2, y2, class], in pixels of the scaled image.

    The original gets its images from a program that calls ``set_roidb``. Here the key ``source``
    of ``param_str`` names a list with lines ``name label xmin ymin xmax ymax``, as convert-boxes
    writes it; an image may have several lines, and the label k is the class k + 1, because 0 is the
    background. ``root_folder`` is the prefix of the names; ``shuffle: false`` keeps the order.
    Or a program calls :meth:`set_roidb`, or gives the net the values of all tops.

    Further keys, with the configuration's names and default values: SCALES (600), lengths of the
    shorter side of which one is drawn, MAX_SIZE (1000) of the longer side, PIXEL_MEANS
    (102.9801, 115.9465, 122.7717), and USE_FLIPPED (true), which adds all images flipped.
    SCALE_MULTIPLE_OF is PVANet's: both sides are cut to multiples of it, and the second top is
    [[H, W, x scale, y scale, x scale, y scale]]. ``num_classes`` counts the background. When the
    net is built the image has the shape (1, 3, max(SCALES), MAX_SIZE).

    With four to six tops, or three of which the second is called rois (the image, regions, labels,
    and perhaps targets and weights of Fast R-CNN), there is nothing to read from a list; the
    program gives the values. Source: roi_data_layer/layer.py and minibatch.py of py-faster-rcnn and
    fast-rcnn. In a net with layer types of R-FCN these tops have four axes, the last ones of 1, and
    with AGNOSTIC (there true) targets for two classes. Source: the same files of py-R-FCN.
    """

    tops = between(3, 6)
    in_place = False
    methods = ("set_roidb",)
    options = {
        "num_classes": REQUIRED,
        "source": "",
        "root_folder": "",
        "shuffle": True,
        "SCALES": (600,),
        "MAX_SIZE": 1000,
        "SCALE_MULTIPLE_OF": 0,
        "PIXEL_MEANS": (102.9801, 115.9465, 122.7717),
        "USE_FLIPPED": True,
        "AGNOSTIC": False,
    }

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        from caffecompat.data.advice import missing_box_list

        try:
            source = parse_param_str(message.python_param.param_str).get("source")
        except ValueError:
            return []
        return missing_box_list(source) if isinstance(source, str) else []

    @classmethod
    def assumed_image(cls, message: Message) -> str:
        # The original's configuration tells it.
        try:
            stated = parse_param_str(message.python_param.param_str)
        except ValueError:
            return ""
        return "" if "SCALES" in stated or "MAX_SIZE" in stated else str(message.top[0])

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.read_options(message)
        given = self.given
        self.check(
            len(given["SCALES"]) > 0 and len(given["PIXEL_MEANS"]) == 3,
            "param_str: SCALES needs one number at least, PIXEL_MEANS three",
        )
        self.classes = int(given["num_classes"])
        self.images: list[ObjectImage] = []
        # Two times through, because a batch is read ahead.
        self._order = functools.lru_cache(maxsize=2)(self._new_order)
        image = (1, 3, int(max(given["SCALES"])), int(given["MAX_SIZE"]))
        # As the original's configuration HAS_RPN says; the names of the tops tell it here.
        self.with_proposals = len(message.top) == _WITH_PROPOSALS and message.top[1] != "rois"
        if self.with_proposals:
            self.shapes = [image, (1, 6 if given["SCALE_MULTIPLE_OF"] else 3), (1, 5)]
        else:
            self.shapes = [image, *self._shapes_of_regions()][: len(message.top)]
        if given["source"] and not self.context.options.shapes_only:
            self._read_list()

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        """A stated shape with three extents is that of one image: channels, height, width."""
        super().state_shapes(message, stated)
        if len(self.shapes[0]) == 3:
            self.shapes[0] = (1, *self.shapes[0])

    def _option(self, name: str, found: Mapping[str, Any]) -> Any:
        if name == "AGNOSTIC" and name not in found:
            return is_of_rfcn(self.context.definition)
        return super()._option(name, found)

    def _shapes_of_regions(self) -> list[Shape]:
        wide = 4 * (2 if self.given["AGNOSTIC"] else self.classes)
        if is_of_rfcn(self.context.definition):
            return [(1, 5, 1, 1), (1, 1, 1, 1), *[(1, wide, 1, 1)] * 3]
        return [(1, 5), (1,), *[(1, wide)] * 3]

    def _read_list(self) -> None:
        from caffecompat.data.sources.objects.object_images import read_object_list, with_mirrored

        self.check(
            self.with_proposals,
            f"it has {len(self.shapes)} tops, but images of a source have three: data, im_info, "
            "gt_boxes",
        )
        with errors_at(self.context.place):
            found = read_object_list(
                self.given["source"],
                self.given["root_folder"],
                self.classes - 1,
                self.context.options.max_bytes,
            )
        self.images = with_mirrored(found) if self.given["USE_FLIPPED"] else found

    def set_roidb(self, roidb: Sequence[Mapping[str, Any]]) -> None:
        """Replaces the images.

        Args:
            roidb: for each image ``image``, its path; ``boxes`` (G, 4), x1, y1, x2, y2 in pixels;
                ``gt_classes`` (G), from 1 on, where boxes with 0 are left out; and ``flipped``.
                A flipped entry has the boxes of the flipped image and, as in py-faster-rcnn, its
                ``width``.

        Raises:
            LayerError: the layer has other tops than data, im_info and gt_boxes.
        """
        self.check(
            self.with_proposals,
            f"it has {len(self.shapes)} tops; set_roidb is for data, im_info and gt_boxes",
        )
        self.images = [_of_roidb(entry) for entry in roidb]
        self._order.cache_clear()

    @property
    def records(self) -> int | None:
        return len(self.images) or None

    def read(self, index: int) -> Sequence[Array]:
        from caffecompat.data.counter_rng import pick_one
        from caffecompat.data.sources.objects.object_images import Preparation, prepared

        # With more tops there is nothing to read from a list.
        listed = self.with_proposals
        ways = "name a list of boxes as 'source' in its param_str, call set_roidb, or "
        self.check(
            bool(self.images),
            f"it has no images: {ways if listed else ''}give the net the values of all its tops",
        )
        times, place = divmod(index, len(self.images))
        image = self.images[self._order(times)[place] if self.given["shuffle"] else place]
        scales = self.given["SCALES"]
        seed = self.context.options.seed
        side = int(scales[pick_one(seed, index, "scale of an image", len(scales))])
        preparation = Preparation(
            tuple(self.given["PIXEL_MEANS"]),
            side,
            int(self.given["MAX_SIZE"]),
            int(self.given["SCALE_MULTIPLE_OF"]),
        )
        with errors_at(self.context.place):
            return prepared(image, preparation)

    def _new_order(self, times: int) -> list[int]:
        from caffecompat.data.counter_rng import permutation

        seed = self.context.options.seed
        order: list[int] = permutation(seed, len(self.images), f"images, pass {times}").tolist()
        return order


def _of_roidb(entry: Mapping[str, Any]) -> ObjectImage:
    import numpy as np

    from caffecompat.data.sources.objects.object_images import ObjectImage

    classes = np.asarray(entry["gt_classes"], np.int64)
    boxes = np.asarray(entry["boxes"], np.float32).reshape(-1, 4)[classes != 0]
    mirrored = bool(entry.get("flipped", False))
    if mirrored:
        boxes = boxes.copy()
        boxes[:, [0, 2]] = entry["width"] - 1 - boxes[:, [2, 0]]
    return ObjectImage(os.fsencode(entry["image"]), boxes, classes[classes != 0], mirrored)
