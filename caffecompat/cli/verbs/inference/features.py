"""``caffecompat features``: descriptors of images (VGG paper, Appendix B)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import device_of
from caffecompat.cli.image_arguments import (
    add_data_arguments,
    add_model_arguments,
    add_preparation_arguments,
    add_scale_arguments,
    add_skip_corrupt_argument,
    default_scales,
    open_data,
    preparation_of,
    read_model,
)
from caffecompat.cli.inference_arguments import compute_options

if TYPE_CHECKING:
    import numpy as np

    from caffecompat.evaluate.features.feature_file import FeatureSet
    from caffecompat.evaluate.features.image_features import FeatureExtraction
    from caffecompat.evaluate.images.labelled_images import LabelledImages

HELP = "descriptors of images: dense activations, averaged, for a linear classifier"
RUNS_NETS = True
EXAMPLE = """\
  caffecompat features --weights vgg16.caffemodel --data train.txt --root images/ \\
      --scales 256,384,512 --output train.h5
  caffecompat features --weights vgg19.caffemodel --data train.txt --root images/ \\
      --stack-with train.h5 --output both.h5
  caffecompat svm train.h5 test.h5

  Persons of PASCAL VOC, whole image and box (the paper's action classification):
  caffecompat features --weights vgg16.caffemodel --data VOCdevkit/VOC2012 --voc Action/train \\
      --part both --output train.h5"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    add_data_arguments(parser)
    add_skip_corrupt_argument(parser)
    add_preparation_arguments(parser)
    add_scale_arguments(parser)
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE.h5", help="HDF5 file to write"
    )
    parser.add_argument(
        "--blob", default="", help="blob to take (default: the bottom of the last layer of weights)"
    )
    parser.add_argument(
        "--pooling",
        choices=("average", "max", "stack"),
        default="average",
        help="descriptors of several scales are averaged, or combined by the maximum of each "
        "element, or stacked into a longer one (default: average)",
    )
    parser.add_argument(
        "--voc",
        metavar="TASK/SET",
        help="--data is the folder of a PASCAL VOC data set; its images are those of "
        "ImageSets/TASK/, e.g. Main/trainval, or Action/train for a descriptor of each person",
    )
    parser.add_argument(
        "--part",
        choices=("image", "box", "both"),
        default="image",
        help="with --voc Action/SET: the whole image, the person's box, which is cut out and "
        "rescaled like an image, or both, stacked (default: image)",
    )
    parser.add_argument(
        "--no-normalize",
        dest="normalize",
        action="store_false",
        help="leave out the division by the Euclidean norm",
    )
    parser.add_argument(
        "--stack-with",
        metavar="FILE.h5",
        help="features of another net for the same images, to put before these in each row",
    )


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.evaluate.features.feature_file import (
        load_features,
        save_features,
        stacked,
    )
    from caffecompat.output_files import check_writable
    from caffecompat.reporting.glog import log_to_stderr

    check_writable(arguments.output)
    with log_to_stderr():
        # First of all: a wrong file costs no images.
        stack = arguments.stack_with
        other = load_features(stack, arguments.max_bytes) if stack else None
        extraction = _extraction(arguments)
        images = _open(arguments, extraction.net.size.channels == 1)
        try:
            found = _extract(extraction, images)
        finally:
            images.close()
        if other is not None:
            found = stacked(other, found, stack, arguments.normalize)
        save_features(found, arguments.output)
    print(
        f"wrote {arguments.output}: {len(found.features):,} descriptors of length "
        f"{found.features.shape[1]:,} from blob {extraction.net.blob!r}"
    )
    return 0


def _extraction(arguments: argparse.Namespace) -> FeatureExtraction:
    from caffecompat.evaluate.features.image_features import FeatureExtraction, FeatureOptions

    model = read_model(arguments, "features")
    options = FeatureOptions(
        blob=arguments.blob,
        scales=arguments.scales or default_scales(model),
        pooling=arguments.pooling,
        flip=arguments.flip,
        normalize=arguments.normalize,
        part=arguments.part,
        skip_corrupt=arguments.skip_corrupt,
    )
    preparation = preparation_of(arguments, model)
    compute = compute_options(arguments)
    return FeatureExtraction(model, preparation, options, device_of(arguments), compute)


def _open(arguments: argparse.Namespace, gray: bool) -> LabelledImages:
    from caffecompat.errors import DataError
    from caffecompat.evaluate.images.labelled_images import ImageOptions
    from caffecompat.evaluate.images.voc_images import VocImages

    if not arguments.voc:
        return open_data(arguments, gray)
    if arguments.root or arguments.unlabelled:
        raise DataError("--root and --unlabelled are for lists; with --voc leave them out")
    options = ImageOptions(gray=gray, max_bytes=arguments.max_bytes)
    return VocImages(arguments.data, arguments.voc, options)


def _extract(extraction: FeatureExtraction, images: LabelledImages) -> FeatureSet:
    import numpy as np

    from caffecompat.errors import DataError
    from caffecompat.evaluate.features.feature_file import NO_LABEL, FeatureSet
    from caffecompat.reporting.progress import show_progress

    rows: list[np.ndarray] = []
    labels: list[int | tuple[int, ...]] = []
    names: list[str] = []
    with show_progress("images") as progress:
        for image, row in extraction.run(images, progress):
            rows.append(row)
            labels.append(image.flags or (NO_LABEL if image.label is None else image.label))
            names.append(image.name)
    if not rows:
        raise DataError(f"{images.path}: none of the images can be used")
    classes = tuple(images.class_names) if images.several_labels else ()
    return FeatureSet(np.stack(rows), np.array(labels, np.int64), tuple(names), classes)
