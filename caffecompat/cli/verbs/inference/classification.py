"""Verb ``classification``: Caffe's C++ example of that name."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import (
    add_device_arguments,
    add_fork_arguments,
    add_max_bytes_argument,
    add_state_arguments,
    add_trust_arguments,
    check_files,
)

HELP = "print the five best classes of images, as Caffe's C++ example classification"
RUNS_NETS = True
EXAMPLE = """\
  caffecompat classification deploy.prototxt net.caffemodel mean.binaryproto labels.txt cat.jpg
  (caffecompat classify keeps the shape of images, and prepares them for many nets)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of Caffe's program, which takes one image."""
    parser.add_argument("model", metavar="MODEL", help="deploy prototxt")
    parser.add_argument("weights", metavar="WEIGHTS", help="weight file")
    parser.add_argument("mean", metavar="MEAN", help="mean file; each channel's mean is subtracted")
    parser.add_argument("labels", metavar="LABELS", help="names of the classes, one per line")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files")
    add_device_arguments(parser)
    add_trust_arguments(parser)
    add_fork_arguments(parser)
    add_max_bytes_argument(parser)
    add_state_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    check_files(arguments.model, arguments.weights)

    from caffecompat.cli.image_arguments import check_class_names
    from caffecompat.cli.running import open_net
    from caffecompat.evaluate.classification.whole_image import (
        WholeImageClassifier,
        prediction_lines,
    )
    from caffecompat.evaluate.images.labelled_images import ImageOptions, files_by_name
    from caffecompat.reporting.glog import LOGGER, log_to_stderr

    with log_to_stderr():
        net = open_net(arguments, "test")
        try:
            net.load_weights(arguments.weights).write_to(LOGGER)
            classifier = WholeImageClassifier(net, arguments.mean, arguments.model)
            labels = check_class_names(arguments.labels, classifier.classes)
            images = files_by_name(arguments.images, ImageOptions(labelled=False))
            for index in range(len(images)):
                image = images.read(index)
                print("\n".join(prediction_lines(image.name, classifier(image.pixels), labels)))
        finally:
            net.close()
    return 0
