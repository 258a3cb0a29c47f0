"""Verb ``convert-mnist-data``: MNIST's files to a database."""

from __future__ import annotations

from caffecompat.cli.importing import add_mnist_arguments as add_arguments
from caffecompat.cli.importing import import_mnist as run

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "write MNIST's idx files to a database"

EXAMPLE = """\
  caffecompat convert-mnist-data train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz train_lmdb"""
