"""Named ways to prepare an image, as the programs around Caffe do it."""

from __future__ import annotations

from collections.abc import Callable

from caffecompat.data.preprocessing import Preprocessing

# B, G, R. The mean pixel of the VGG release's readme, and the means of Caffe's ilsvrc12 mean image.
VGG_MEAN = (103.939, 116.779, 123.68)
ILSVRC12_MEAN = (104.00698793, 116.66876762, 122.67891434)
# Of SSD's transform_param, and of py-faster-rcnn's configuration.
SSD_MEAN = (104.0, 117.0, 123.0)
FASTER_RCNN_MEAN = (102.9801, 115.9465, 122.7717)

Crop = tuple[int, int] | None


def _vgg(crop: Crop) -> Preprocessing:
    return Preprocessing(mean=VGG_MEAN, resize=256, crop=crop)


def _caffenet(crop: Crop) -> Preprocessing:
    return Preprocessing(mean=ILSVRC12_MEAN, resize=(256, 256), crop=crop)


def _digits(crop: Crop) -> Preprocessing:
    return Preprocessing(resize=(256, 256), crop=crop)


def _none(crop: Crop) -> Preprocessing:
    return Preprocessing()


def _ssd(crop: Crop) -> Preprocessing:
    return Preprocessing(mean=SSD_MEAN, resize=crop)


def _mobilenet_ssd(crop: Crop) -> Preprocessing:
    return Preprocessing(mean=(127.5,), scale=0.007843, resize=crop)


def _faster_rcnn(crop: Crop) -> Preprocessing:
    return Preprocessing(mean=FASTER_RCNN_MEAN, resize=600)


PRESETS: dict[str, tuple[Callable[[Crop], Preprocessing], str]] = {
    "vgg": (_vgg, "shorter side 256, central crop, minus the mean pixel of the VGG release"),
    "caffenet": (_caffenet, "256 x 256, central crop, minus the channel means of ilsvrc12"),
    "pycaffe-classifier": (
        _caffenet,
        "caffe.Classifier as its notebook sets it up: the numbers of caffenet",
    ),
    "digits": (_digits, "DIGITS: 256 x 256, central crop, minus the mean of your data (--mean)"),
    "ssd": (_ssd, "SSD: stretched to the input, minus 104, 117, 123"),
    "mobilenet-ssd": (_mobilenet_ssd, "MobileNet-SSD: stretched, minus 127.5, times 0.007843"),
    "faster-rcnn": (_faster_rcnn, "py-faster-rcnn: shorter side 600, minus its mean pixel"),
    "none": (_none, "values of 0 to 255 as they are, B, G, R"),
}
"""By name: what makes the preset for the crop that a net takes, and what it is in words."""

NEEDS_MEAN = frozenset({"digits"})
"""Presets whose mean is that of the user's own data."""
