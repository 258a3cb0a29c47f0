"""Arguments and work of the verbs that convert published data sets to databases.

Each of Caffe's tools for them is a verb; ``dataset import`` has all of them.
"""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import add_max_bytes_argument


def add_mnist_arguments(parser: argparse.ArgumentParser, backend: str = "lmdb") -> None:
    """Two idx files and a database; ``backend`` is the default."""
    packed = "packed by gzip or not"
    parser.add_argument("images", metavar="IMAGES", help=f"train-images-idx3-ubyte, {packed}")
    parser.add_argument("labels", metavar="LABELS", help=f"train-labels-idx1-ubyte, {packed}")
    parser.add_argument("database", metavar="DB", help="folder to make; must not exist yet")
    parser.add_argument("--backend", default=backend, help=f"lmdb or leveldb (default: {backend})")
    add_max_bytes_argument(parser)


def add_siamese_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments for MNIST, and the seed of the pairs."""
    add_mnist_arguments(parser, "leveldb")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the random pairs (default: 0)"
    )


def add_cifar_arguments(parser: argparse.ArgumentParser, coarse: bool = False) -> None:
    """The folder of the binary files, the folder of the databases, their kind."""
    parser.add_argument("folder", metavar="FOLDER", help="where the binary files are, unpacked")
    parser.add_argument("target", metavar="OUT_FOLDER", help="folder for the two databases")
    parser.add_argument(
        "backend", metavar="DB_TYPE", nargs="?", default="lmdb", help="lmdb (default) or leveldb"
    )
    if coarse:
        parser.add_argument(
            "--coarse", action="store_true", help="the 20 coarse labels, not the 100 fine ones"
        )
    add_max_bytes_argument(parser)


def import_mnist(arguments: argparse.Namespace) -> int:
    """Converts MNIST's images and labels."""
    from caffecompat.cli.jobs import logged_progress
    from caffecompat.data.tools.mnist import convert_mnist

    given = (arguments.images, arguments.labels, arguments.database, arguments.backend)
    with logged_progress() as progress:
        convert_mnist(*given, progress, arguments.max_bytes)
    return 0


def import_siamese(arguments: argparse.Namespace) -> int:
    """Converts pairs of MNIST's images."""
    from caffecompat.cli.jobs import logged_progress
    from caffecompat.data.tools.mnist import convert_mnist_siamese

    given = (arguments.images, arguments.labels, arguments.database, arguments.backend)
    with logged_progress() as progress:
        convert_mnist_siamese(*given, arguments.seed, progress, arguments.max_bytes)
    return 0


def import_cifar10(arguments: argparse.Namespace) -> int:
    """Converts CIFAR-10 to two databases."""
    from caffecompat.cli.jobs import logged_progress
    from caffecompat.data.tools.cifar import CIFAR10, convert_cifar

    with logged_progress() as progress:
        convert_cifar(
            arguments.folder,
            arguments.target,
            CIFAR10,
            arguments.backend,
            progress=progress,
            max_bytes=arguments.max_bytes,
        )
    return 0


def import_cifar100(arguments: argparse.Namespace) -> int:
    """Converts CIFAR-100 to two databases."""
    from caffecompat.cli.jobs import logged_progress
    from caffecompat.data.tools.cifar import CIFAR100, convert_cifar

    with logged_progress() as progress:
        convert_cifar(
            arguments.folder,
            arguments.target,
            CIFAR100,
            arguments.backend,
            coarse=arguments.coarse,
            progress=progress,
            max_bytes=arguments.max_bytes,
        )
    return 0
