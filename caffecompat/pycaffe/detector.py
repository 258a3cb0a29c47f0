"""Classification of windows of images: what ``caffe.Detector`` is in pycaffe, for R-CNN."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import CaffeError, DataError
from caffecompat.pycaffe import io
from caffecompat.pycaffe.classifier import input_transformer
from caffecompat.pycaffe.nets.net import Net
from caffecompat.pycaffe.proto import caffe_pb2

Array = NDArray[Any]

_SELECTIVE_SEARCH = "selective_search_ijcv_with_python"


class MissingSelectiveSearch(CaffeError, ImportError):
    """The MATLAB program that proposes windows is not there."""

    def __init__(self) -> None:
        super().__init__(
            f"detect_selective_search needs the module {_SELECTIVE_SEARCH}, which calls MATLAB, on "
            "the Python path; without it, pass windows of your own to detect_windows"
        )


class Detector(Net):
    """A net that classifies windows of images, each resized to its input.

    Args:
        model_file: a prototxt with one image input (N, C, H, W).
        pretrained_file: its weights.
        mean, input_scale, raw_scale, channel_swap: see :class:`caffecompat.pycaffe.io.Transformer`.
        context_pad: pixels of context around a window, at the size of the input, on each side;
            outside the image they are the mean. None or 0 for none.

    Attributes:
        transformer, crop_dims, crop_mean, context_pad: as in pycaffe.
    """

    transformer: io.Transformer
    crop_dims: Array
    crop_mean: Array
    context_pad: int | None

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        mean: Array | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, caffe_pb2.TEST, weights=pretrained_file)
        self.transformer = input_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(
        self, images_windows: Iterable[tuple[str, Sequence[Any] | Array]]
    ) -> list[dict[str, Any]]:
        """The first output of the net for windows of image files.

        Args:
            images_windows: pairs of a file name and its windows, each
                (ymin, xmin, ymax, xmax) in pixels; ymax and xmax are not part of the window.

        Returns:
            one dict per window, in order: ``window``, ``prediction``, ``filename``.

        Raises:
            DataError: an image cannot be read, or a window has no pixels; the message names both.
        """
        pairs = [(name, list(windows)) for name, windows in images_windows]
        name = self.inputs[0]
        values = []
        for filename, windows in pairs:
            image = io.load_image(filename)
            for window in windows:
                try:
                    cut = self.crop(image, window)
                except DataError as error:
                    raise DataError(f"{filename}: {error}") from error
                values.append(self.transformer.preprocess(name, cut))
        if not values:
            return []
        inputs: dict[str, Any] = {name: np.stack(values)}
        predictions = self.forward_all(**inputs)[self.outputs[0]]
        every = [(filename, window) for filename, windows in pairs for window in windows]
        return [
            {"window": window, "prediction": prediction, "filename": filename}
            for (filename, window), prediction in zip(every, predictions, strict=True)
        ]

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[dict[str, Any]]:
        """:meth:`detect_windows` for the windows that selective search proposes, in MATLAB.

        Raises:
            MissingSelectiveSearch: the module that calls MATLAB is not on the Python path.
        """
        try:
            search = importlib.import_module(_SELECTIVE_SEARCH)
        except ImportError as error:
            raise MissingSelectiveSearch from error
        # MATLAB runs in another folder.
        names = [os.path.abspath(name) for name in image_fnames]
        windows = search.get_windows(names, cmd="selective_search_rcnn")
        return self.detect_windows(list(zip(names, windows, strict=True)))

    def crop(self, im: Array, window: Sequence[Any] | Array) -> Array:
        """A window of an image, with context around it if ``context_pad`` is set.

        Args:
            im: height x width x channels.
            window: (ymin, xmin, ymax, xmax) in pixels.

        Returns:
            the pixels of the window as they are, or, with context, those of the size of the
            net's input.

        Raises:
            DataError: the window has no pixels in the image.
        """
        box = np.asarray(window, dtype=np.float64).ravel()
        if box.size != 4:
            raise DataError(f"window {window}: expected (ymin, xmin, ymax, xmax)")
        if self.context_pad:
            return self._crop_with_context(im, box)
        top, left, bottom, right = (int(value) for value in box)
        cut = im[max(top, 0) : bottom, max(left, 0) : right]
        if not cut.size:
            raise DataError(_outside(window, im))
        return cut

    def configure_crop(self, context_pad: int | None) -> None:
        """Sets the pixels of context, and prepares the values that lie outside the image.

        Raises:
            DataError: twice the context is the whole input or more.
        """
        name = self.inputs[0]
        transformer = self.transformer
        order = tuple(int(axis) for axis in np.argsort(transformer.transpose[name]))
        shape = np.array(self.blobs[name].data.shape[1:])
        self.crop_dims = shape[list(order)]
        self.context_pad = context_pad
        if not context_pad:
            return
        if 2 * context_pad >= min(self.crop_dims[:2]):
            raise DataError(
                f"context_pad is {context_pad} on each side of an input of "
                f"{self.crop_dims[0]} x {self.crop_dims[1]}; give a number below half of that"
            )
        self.crop_mean = np.zeros(self.crop_dims, dtype=np.float32)
        mean = transformer.mean.get(name)
        if mean is None:
            return
        # The mean as the pixels of an image, before they are swapped and scaled.
        pixels = np.asarray(mean, dtype=np.float64)
        pixels = (pixels[None] if pixels.ndim == 2 else pixels).transpose(order)
        swap = transformer.channel_swap.get(name)
        if swap is not None:
            pixels = pixels[:, :, np.argsort(swap)]
        self.crop_mean = pixels / transformer.raw_scale.get(name, 1)

    def _crop_with_context(self, im: Array, window: Array) -> Array:
        """The window and its context, resized to the input; what is outside is the mean."""
        assert self.context_pad
        size = self.crop_dims[:2]
        height, width = im.shape[:2]
        extents = (window[2:] - window[:2] + 1) / 2
        around = extents * (size / (size - 2 * self.context_pad))
        center = window[:2] + extents
        box = np.round(np.concatenate([center - around, center + around]))
        scale = size / (box[2:] - box[:2] + 1)
        pad = [round(max(0.0, -first) * factor) for first, factor in zip(box, scale, strict=False)]
        inside = np.clip(box, 0, [height, width, height, width])
        extents = (inside[2:] - inside[:2] + 1) * scale
        # Rounding may make the parts one pixel larger than the whole.
        rows, columns = (
            min(round(extent), int(most) - start)
            for extent, most, start in zip(extents, size, pad, strict=True)
        )
        top, left, bottom, right = inside.astype(int)
        cut = im[top:bottom, left:right]
        if not cut.size or min(rows, columns) < 1:
            raise DataError(_outside(window, im))
        result = np.ones(self.crop_dims, dtype=np.float32) * self.crop_mean
        result[pad[0] : pad[0] + rows, pad[1] : pad[1] + columns] = io.resize_image(
            cut, (rows, columns)
        )
        return result


def _outside(window: Any, im: Array) -> str:
    shown = ", ".join(f"{value:g}" for value in np.asarray(window).ravel())
    return (
        f"window ({shown}) has no pixels in the image of {im.shape[0]} x {im.shape[1]}; "
        "windows are (ymin, xmin, ymax, xmax)"
    )
