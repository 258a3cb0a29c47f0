"""``caffecompat extract-features``: Caffe's tool of that name."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import (
    add_fork_arguments,
    add_max_bytes_argument,
    add_precision_argument,
    add_trust_arguments,
    check_files,
)

HELP = "write blobs of a net's data to databases or arrays, as Caffe's extract_features"
RUNS_NETS = True
EXAMPLE = """\
  caffecompat extract-features net.caffemodel val.prototxt fc7 fc7_lmdb 10 lmdb
  caffecompat extract-features net.caffemodel val.prototxt fc6,fc7 fc6_lmdb,fc7_lmdb 10 lmdb GPU 0
  caffecompat extract-features net.caffemodel val.prototxt fc7 fc7.h5 10 hdf5
  (caffecompat features makes descriptors of image files with one command)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of Caffe's tool."""
    parser.add_argument("weights", metavar="WEIGHTS", help="weight file")
    parser.add_argument("model", metavar="MODEL", help="prototxt of a net with data layers")
    parser.add_argument("blobs", metavar="BLOBS", help="names of blobs, separated by commas")
    parser.add_argument(
        "databases", metavar="DATABASES", help="databases or files to make, one for each blob"
    )
    parser.add_argument("batches", metavar="BATCHES", type=int, help="number of batches to run")
    parser.add_argument("backend", metavar="BACKEND", help="lmdb, leveldb, hdf5 or npz")
    parser.add_argument(
        "device", metavar="DEVICE", nargs="?", default="CPU", help="CPU or GPU (default: CPU)"
    )
    parser.add_argument(
        "device_id", metavar="ID", nargs="?", type=int, default=0, help="of the GPU (default: 0)"
    )
    add_precision_argument(parser)
    add_trust_arguments(parser)
    add_fork_arguments(parser)
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    check_files(arguments.model, arguments.weights)

    from caffecompat.cli.running import open_net
    from caffecompat.evaluate.features.extract_features import extract_features
    from caffecompat.reporting.glog import LOGGER, log_to_stderr
    from caffecompat.reporting.progress import show_progress
    from caffecompat.solver.setup.compute import ComputeOptions

    arguments.gpu = str(arguments.device_id) if arguments.device.upper() == "GPU" else "none"
    arguments.level, arguments.stage = 0, ""
    with log_to_stderr():
        net = open_net(arguments, "test")
        try:
            net.load_weights(arguments.weights).write_to(LOGGER)
            compute = ComputeOptions(arguments.precision)
            compute.prepare(net, train=False)
            LOGGER.info("Extracting Features")
            with (
                compute.whole_pass(),
                compute.forward(net.device),
                show_progress("batches") as progress,
            ):
                extract_features(
                    net,
                    _names(arguments.blobs),
                    _names(arguments.databases),
                    arguments.batches,
                    arguments.backend.upper(),
                    progress,
                )
        finally:
            net.close()
        LOGGER.info("Successfully extracted the features!")
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
