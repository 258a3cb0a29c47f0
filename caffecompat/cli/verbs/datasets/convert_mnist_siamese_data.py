"""Verb ``convert-mnist-siamese-data``: pairs of MNIST's images to a database."""

from __future__ import annotations

from caffecompat.cli.importing import add_siamese_arguments as add_arguments
from caffecompat.cli.importing import import_siamese as run

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "write random pairs of MNIST's images to a database; label 1: of one class"

EXAMPLE = """\
  caffecompat convert-mnist-siamese-data --backend lmdb train-images-idx3-ubyte \\
      train-labels-idx1-ubyte pairs_lmdb"""
