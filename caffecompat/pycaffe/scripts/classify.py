"""Predictions of a net for one image, a folder of images, or an array of them.

As Caffe's ``python/classify.py``::

    python -m caffecompat.pycaffe.scripts.classify --model_def deploy.prototxt \\
        --pretrained_model net.caffemodel cat.jpg predictions.npy
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import DataError
from caffecompat.output_files import atomic_write
from caffecompat.pycaffe.io import load_image
from caffecompat.pycaffe.scripts.flags import (
    add_net_arguments,
    integer_pair,
    run,
    set_channel_swap,
    settings,
)
from caffecompat.weights.encodings.npy import read_npy

_IMAGES_AXES = 4


def main(words: Sequence[str] | None = None) -> int:
    """Runs the script with the given words, or those of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m caffecompat.pycaffe.scripts.classify",
        description="Write the predictions of a net for images to a .npy file: images x classes.",
    )
    parser.add_argument(
        "input_file", help="image, folder of images, or .npy of N x height x width x channels"
    )
    parser.add_argument("output_file", help="output npy filename")
    add_net_arguments(parser)
    parser.add_argument(
        "--center_only",
        action="store_true",
        help="predict from the center crop alone instead of averaging over ten crops",
    )
    parser.add_argument(
        "--images_dim",
        type=integer_pair,
        default=(256, 256),
        metavar="HEIGHT,WIDTH",
        help="size of images before they are cropped (default: 256,256)",
    )
    parser.add_argument(
        "--ext", default="jpg", help="suffix of the images in a folder (default: jpg)"
    )
    return run(_classify, parser.parse_args(words))


def _classify(arguments: argparse.Namespace) -> None:
    from caffecompat.pycaffe.classifier import Classifier

    keywords = settings(arguments)
    net = Classifier(
        arguments.model_def, arguments.pretrained_model, image_dims=arguments.images_dim, **keywords
    )
    set_channel_swap(net, arguments.channel_swap)
    colour = net.blobs[net.inputs[0]].data.shape[1] != 1
    images = _read_images(arguments.input_file, arguments.ext, colour)
    print(f"Classifying {len(images)} inputs.", flush=True)
    start = time.time()
    predictions = net.predict(images, not arguments.center_only)
    print(f"Done in {time.time() - start:.2f} s.")
    # As numpy.save names its files.
    target = arguments.output_file
    target = target if target.endswith(".npy") else f"{target}.npy"
    with atomic_write(target) as file:
        np.save(file, predictions)
    print(f"Saved results into {target}")


def _read_images(path: str, suffix: str, colour: bool) -> Sequence[NDArray[Any]]:
    if path.endswith(".npy"):
        print(f"Loading file: {path}", flush=True)
        images = read_npy(path)
        if images.ndim != _IMAGES_AXES:
            raise DataError(
                f"{path}: has shape {images.shape}, expected images x height x width x channels"
            )
        return list(images)
    if not Path(path).is_dir():
        print(f"Loading file: {path}", flush=True)
        return [load_image(path, colour)]
    print(f"Loading folder: {path}", flush=True)
    names = sorted(Path(path).glob(f"*.{suffix}"))
    if not names:
        raise DataError(f"{path}: has no images *.{suffix}; --ext names another suffix")
    return [load_image(name, colour) for name in names]


if __name__ == "__main__":
    raise SystemExit(main())
