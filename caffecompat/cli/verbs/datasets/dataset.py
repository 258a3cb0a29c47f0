"""Verb ``dataset``: describe, check and rewrite databases."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from caffecompat.cli.contact_sheets import add_show_arguments, show
from caffecompat.cli.importing import (
    add_cifar_arguments,
    add_mnist_arguments,
    add_siamese_arguments,
    import_cifar10,
    import_cifar100,
    import_mnist,
    import_siamese,
)
from caffecompat.cli.jobs import logged_progress
from caffecompat.reporting.terminal import printable

if TYPE_CHECKING:
    from caffecompat.data.backends.database import Database

HELP = "look at, check, merge, shuffle, split, sample, export or import databases"

EXAMPLE = """\
  caffecompat dataset info train_lmdb
  caffecompat dataset show train_lmdb --labels train_lmdb.labels.txt
  caffecompat dataset show --net train_val.prototxt --phase TRAIN sheet.png
  caffecompat dataset verify train_lmdb
  caffecompat dataset split train_lmdb part_lmdb held_out_lmdb --fraction 0.95

  caffecompat dataset ACTION --help describes one action."""

Parser = argparse.ArgumentParser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command per action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, run_action: Callable[[argparse.Namespace], int], what: str) -> Parser:
        added = actions.add_parser(name, help=what, description=what, allow_abbrev=False)
        added.set_defaults(run_action=run_action)
        return added

    one = action("info", _info, "record count, sizes, shapes, label histogram")
    _add_database(one)
    one.add_argument("--most", type=int, default=10, metavar="N", help="longest list (default: 10)")
    one = action("show", show, "write a PNG of the first images with their labels")
    add_show_arguments(one)
    one = action("verify", _verify, "read and decode every record, list the bad ones; exit code 1")
    _add_database(one)
    one.add_argument("--workers", type=int, metavar="N", help="threads (default: one per core)")
    one = action("merge", _merge, "all records of several databases, one after the other")
    one.add_argument("databases", metavar="DB", nargs="+", help="the databases")
    _add_target(one)
    one = action("shuffle", _shuffle, "the records in random order")
    _add_rewriting(one)
    one = action("split", _split, "two databases; each record goes to one of them at random")
    _add_database(one)
    one.add_argument("first", metavar="OUT1", help="database to make")
    one.add_argument("second", metavar="OUT2", help="database to make of the other records")
    one.add_argument(
        "--fraction", type=float, required=True, metavar="F", help="part in OUT1, from 0 to 1"
    )
    _add_seed(one)
    one = action("sample", _sample, "records chosen at random, in their order")
    _add_rewriting(one)
    one.add_argument("--count", type=int, required=True, metavar="N", help="how many")
    one = action("export", _export, "image files and list.txt, for convert-imageset")
    _add_database(one)
    one.add_argument("folder", metavar="FOLDER", help="folder to make")
    one = action("list", _list, "a list of the images in a folder tree, each sub-folder a class")
    one.add_argument("folder", metavar="FOLDER", help="the folder; its sub-folders are the classes")
    one.add_argument("list", metavar="LIST", help="text file to write, for ImageData layers too")
    one.add_argument("--root", help="put before each name when the list is read (default: FOLDER/)")
    one = actions.add_parser("import", help="published data sets, from their own files")
    _add_imports(one.add_subparsers(dest="kind", metavar="KIND", required=True))


def _add_imports(kinds: Any) -> None:
    def kind(name: str, run_action: Callable[[argparse.Namespace], int], what: str) -> Parser:
        added: Parser = kinds.add_parser(name, help=what, description=what, allow_abbrev=False)
        added.set_defaults(run_action=run_action)
        return added

    add_mnist_arguments(kind("mnist", import_mnist, "two idx files, as convert-mnist-data"))
    what = "random pairs, as convert-mnist-siamese-data"
    add_siamese_arguments(kind("mnist-siamese", import_siamese, what))
    what = "training and test images, as convert-cifar-data"
    add_cifar_arguments(kind("cifar10", import_cifar10, what))
    what = "training and test images, fine or coarse labels"
    add_cifar_arguments(kind("cifar100", import_cifar100, what), coarse=True)


def _add_database(parser: Parser) -> None:
    parser.add_argument("database", metavar="DB", help="the database")
    parser.add_argument("--backend", help="lmdb or leveldb (default: recognised by the files)")


def _add_target(parser: Parser) -> None:
    parser.add_argument("output", metavar="OUT", help="database to make")
    parser.add_argument("--backend", help="of OUT: lmdb or leveldb (default: as DB)")


def _add_seed(parser: Parser) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: 0)")


def _add_rewriting(parser: Parser) -> None:
    parser.add_argument("database", metavar="DB", help="the database")
    _add_target(parser)
    _add_seed(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    code: int = arguments.run_action(arguments)
    return code


def _open(path: str, backend: str | None = None) -> Database:
    from caffecompat.data.backends.database import guess_backend, open_database

    return open_database(path, backend or guess_backend(path) or "LMDB")


def _kind(arguments: argparse.Namespace, source: str) -> str:
    from caffecompat.data.backends.database import guess_backend

    return arguments.backend or guess_backend(source) or "LMDB"


def _info(arguments: argparse.Namespace) -> int:
    from caffecompat.data.tools.stats import describe, summarise

    with _open(arguments.database, arguments.backend) as database, logged_progress() as progress:
        summary = summarise(database, progress)
    print(describe(summary, max(arguments.most, 1)), end="")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from caffecompat.data.tools.stats import find_faults

    found = 0
    with _open(arguments.database, arguments.backend) as database:
        with logged_progress() as progress:
            for fault in find_faults(database, arguments.workers, progress):
                print(printable(fault), flush=True)
                found += 1
        print(f"{len(database)} records, {found} bad")
    return 1 if found else 0


def _merge(arguments: argparse.Namespace) -> int:
    from contextlib import ExitStack

    from caffecompat.data.tools.rewrite import merge

    kind = _kind(arguments, arguments.databases[0])
    with ExitStack() as stack:
        sources = [stack.enter_context(_open(path)) for path in arguments.databases]
        progress = stack.enter_context(logged_progress())
        count = merge(sources, arguments.output, kind, progress)
    print(f"{arguments.output}: {count} records")
    return 0


def _shuffle(arguments: argparse.Namespace) -> int:
    from caffecompat.data.tools.rewrite import shuffle

    kind = _kind(arguments, arguments.database)
    with _open(arguments.database) as source, logged_progress() as progress:
        count = shuffle(source, arguments.output, kind, arguments.seed, progress)
    print(f"{arguments.output}: {count} records")
    return 0


def _split(arguments: argparse.Namespace) -> int:
    from caffecompat.data.tools.rewrite import split

    kind = _kind(arguments, arguments.database)
    targets = (arguments.first, arguments.second)
    with _open(arguments.database, arguments.backend) as source, logged_progress() as progress:
        counts = split(source, targets, kind, arguments.fraction, arguments.seed, progress)
    for target, count in zip(targets, counts, strict=True):
        print(f"{target}: {count} records")
    return 0


def _sample(arguments: argparse.Namespace) -> int:
    from caffecompat.data.tools.rewrite import sample

    kind = _kind(arguments, arguments.database)
    with _open(arguments.database) as source, logged_progress() as progress:
        sample(source, arguments.output, kind, arguments.count, arguments.seed, progress)
    print(f"{arguments.output}: {arguments.count} records")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from caffecompat.data.sources.image_lists.image_list import write_list

    with logged_progress():
        count, classes = write_list(arguments.folder, arguments.list, arguments.root)
    print(
        f"{arguments.list}: {count} images of {classes} classes, named in {arguments.list}.labels"
    )
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from caffecompat.data.tools.export_images import LIST, export

    with _open(arguments.database, arguments.backend) as source, logged_progress() as progress:
        count = export(source, arguments.folder, progress)
    print(f"{arguments.folder}: {count} images and {LIST}")
    return 0
