#!/usr/bin/env python
"""Record one pass of a net with an old pycaffe, to be checked elsewhere.

Stands alone: copy this file to the machine that still has Caffe. Python 2.7 or 3, numpy and
pycaffe are all it needs. It writes OUT.prototxt and OUT.npz with inputs, parameters, every blob
and, with --backward, gradients. Then, on the new machine::

    caffecompat verify --recorded OUT.prototxt

Example, on the old machine::

    python record_caffe.py deploy.prototxt --weights model.caffemodel --out case
"""

from __future__ import print_function

import argparse
import io
import sys

import numpy as np

PHASES = ("TRAIN", "TEST")


def main(argv=None):
    arguments = parse(argv)
    try:
        import caffe
    except ImportError as error:
        print("record_caffe: cannot import pycaffe (%s); put caffe/python on PYTHONPATH" % error)
        return 1
    caffe.set_mode_cpu()
    # numpy's old generator is the same in every version, so a record can be made again.
    random = np.random.RandomState(arguments.seed)
    net = open_net(caffe, arguments)
    record = {"phase": np.array(arguments.phase)}
    set_inputs(net, arguments, random, record)
    losses = forward(net, record)
    if arguments.backward:
        backward(net, random, record, losses)
    with io.open(arguments.net, "rb") as source, io.open(arguments.out + ".prototxt", "wb") as copy:
        copy.write(source.read())
    np.savez(arguments.out + ".npz", **record)
    print("wrote %s.prototxt and %s.npz (%d arrays)" % (arguments.out, arguments.out, len(record)))
    return 0


def parse(argv):
    parser = argparse.ArgumentParser(
        description="Record one pass of a net with pycaffe for 'caffecompat verify --recorded'."
    )
    parser.add_argument("net", help="net definition with Input layers (a deploy prototxt)")
    parser.add_argument("--weights", help="caffemodel; without it the fillers' values are recorded")
    parser.add_argument("--phase", choices=PHASES, default="TEST")
    parser.add_argument("--inputs", help=".npz with one array per input blob; default: random")
    parser.add_argument("--scale", type=float, default=1.0, help="deviation of random inputs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random values")
    parser.add_argument(
        "--backward",
        action="store_true",
        help="record gradients too (put force_backward: true into the net for those of inputs)",
    )
    parser.add_argument("--out", required=True, help="name of the files to write, without suffix")
    return parser.parse_args(argv)


def open_net(caffe, arguments):
    phase = getattr(caffe, arguments.phase)
    if arguments.weights:
        return caffe.Net(arguments.net, arguments.weights, phase)
    return caffe.Net(arguments.net, phase)


def set_inputs(net, arguments, random, record):
    given = np.load(arguments.inputs) if arguments.inputs else {}
    for name in net.inputs:
        blob = net.blobs[name]
        if name in given:
            value = np.asarray(given[name], np.float32)
            blob.reshape(*value.shape)
        else:
            value = (random.standard_normal(blob.data.shape) * arguments.scale).astype(np.float32)
        blob.data[...] = value
        record["in/" + name] = value
    net.reshape()
    if not net.inputs:
        print("record_caffe: the net has no Input layer; its data layers will not be replayed")


def forward(net, record):
    """Runs the net; returns the outputs that are losses."""
    # Caffe keeps the loss weight in the gradient of a loss blob from the beginning.
    losses = [name for name in net.outputs if np.any(net.blobs[name].diff != 0)]
    before = {}
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            before["%s/%d" % (layer, i)] = blob.data.copy()
    total = net._forward(0, len(net.layers) - 1)
    for key, value in before.items():
        record["param/" + key] = value
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            key = "%s/%d" % (layer, i)
            if not np.array_equal(before[key], blob.data):
                record["paramafter/" + key] = blob.data.copy()
    for name, blob in net.blobs.items():
        if "_split_" not in name:
            record["out/" + name] = blob.data.copy()
    record["loss"] = np.array(total, np.float32)
    return losses


def backward(net, random, record, losses):
    for name in net.outputs:
        if name not in losses:
            diff = random.standard_normal(net.blobs[name].diff.shape).astype(np.float32)
            net.blobs[name].diff[...] = diff
            record["topdiff/" + name] = diff
    for blobs in net.params.values():
        for blob in blobs:
            blob.diff[...] = 0
    net._backward(len(net.layers) - 1, 0)
    for name in net.inputs:
        record["indiff/" + name] = net.blobs[name].diff.copy()
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            record["paramdiff/%s/%d" % (layer, i)] = blob.diff.copy()


if __name__ == "__main__":
    sys.exit(main())
