"""Verb ``convert-cifar-data``: CIFAR-10's binary files to two databases."""

from __future__ import annotations

from caffecompat.cli.importing import add_cifar_arguments as add_arguments
from caffecompat.cli.importing import import_cifar10 as run

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "write CIFAR-10's binary files to a training and a test database"

EXAMPLE = """\
  caffecompat convert-cifar-data cifar-10-batches-bin examples/cifar10 lmdb
  makes examples/cifar10/cifar10_train_lmdb and cifar10_test_lmdb"""
