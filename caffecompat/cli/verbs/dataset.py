"""Verb ``dataset``: look at databases, check them, make new ones of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffecompat.cli.arguments import add_state_arguments, stages
from caffecompat.errors import DataError, FileProblem

if TYPE_CHECKING:
    from caffecompat.data.database import Database
    from caffecompat.data.progress import Progress
    from caffecompat.layers import Source

HELP = "look at, check, merge, shuffle, split, sample or export databases"

EXAMPLE = """\
  caffecompat dataset info train_lmdb
  caffecompat dataset show --net train_val.prototxt --phase TRAIN sheet.png
  caffecompat dataset verify train_lmdb
  caffecompat dataset split train_lmdb part_lmdb held_out_lmdb --fraction 0.95

  caffecompat dataset ACTION --help tells about one action."""

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
    one = action("show", _show, "write a PNG of the first images with their labels")
    _add_show(one)
    one = action("verify", _verify, "read and decode every record, list the bad ones; exit code 1")
    _add_database(one)
    one.add_argument("--workers", type=int, metavar="N", help="threads (default: one per core)")
    one = action("merge", _merge, "all records of several databases, one after the other")
    one.add_argument("databases", metavar="DB", nargs="+", help="the databases")
    _add_target(one)
    one = action("shuffle", _shuffle, "the records in another order")
    _add_rewriting(one)
    one = action("split", _split, "two databases, each record in one of them, by chance")
    _add_database(one)
    one.add_argument("first", metavar="OUT1", help="database to make")
    one.add_argument("second", metavar="OUT2", help="database to make, of the rest")
    one.add_argument(
        "--fraction", type=float, required=True, metavar="F", help="part in OUT1, from 0 to 1"
    )
    _add_seed(one)
    one = action("sample", _sample, "some records, by chance, in their old order")
    _add_rewriting(one)
    one.add_argument("--count", type=int, required=True, metavar="N", help="how many")
    one = action("export", _export, "image files and list.txt, for convert-imageset")
    _add_database(one)
    one.add_argument("folder", metavar="FOLDER", help="folder to make")


def _add_database(parser: Parser) -> None:
    parser.add_argument("database", metavar="DB", help="the database")
    parser.add_argument(
        "--backend", help="lmdb or leveldb (default: what the files of the database say)"
    )


def _add_target(parser: Parser) -> None:
    parser.add_argument("output", metavar="OUT", help="database to make")
    parser.add_argument("--backend", help="of OUT: lmdb or leveldb (default: as DB)")


def _add_seed(parser: Parser) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of chance (default: 0)")


def _add_rewriting(parser: Parser) -> None:
    parser.add_argument("database", metavar="DB", help="the database")
    _add_target(parser)
    _add_seed(parser)


def _add_show(parser: Parser) -> None:
    parser.add_argument("database", metavar="DB", nargs="?", help="the database, shown as stored")
    parser.add_argument("output", metavar="OUT.png", help="the picture to write, .png or .jpg")
    parser.add_argument("--backend", help="lmdb or leveldb (default: what the files say)")
    parser.add_argument(
        "--net", metavar="PROTOTXT", help="show what its data layer gives, after the transforms"
    )
    parser.add_argument("--phase", default="TRAIN", help="TRAIN or TEST (default: TRAIN)")
    add_state_arguments(parser)
    parser.add_argument("--layer", metavar="NAME", help="data layer (default: the first)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of crops and flips")
    parser.add_argument("--count", type=int, default=64, metavar="N", help="images (default: 64)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="skip that many before")
    parser.add_argument("--columns", type=int, default=8, metavar="N", help="(default: 8)")
    parser.add_argument("--cell", type=int, default=128, metavar="PIXELS", help="(default: 128)")


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    code: int = arguments.run_action(arguments)
    return code


@contextmanager
def _working(unit: str = "records") -> Iterator[Progress]:
    from caffecompat.data.progress import console, progress_of
    from caffecompat.solver.log import log_to

    with log_to(console()), progress_of(unit) as progress:
        yield progress


def _open(path: str, backend: str | None = None) -> Database:
    from caffecompat.data.database import guess_backend, open_database

    return open_database(path, backend or guess_backend(path) or "LMDB")


def _kind(arguments: argparse.Namespace, source: str) -> str:
    from caffecompat.data.database import guess_backend

    return arguments.backend or guess_backend(source) or "LMDB"


def _info(arguments: argparse.Namespace) -> int:
    from caffecompat.data.inspection import describe, summarise

    with _open(arguments.database, arguments.backend) as database, _working() as progress:
        summary = summarise(database, progress)
    print(describe(summary, max(arguments.most, 1)), end="")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from caffecompat.data.inspection import find_faults

    found = 0
    with _open(arguments.database, arguments.backend) as database:
        with _working() as progress:
            for fault in find_faults(database, arguments.workers, progress):
                print(fault, flush=True)
                found += 1
        print(f"{len(database)} records, {found} bad")
    return 1 if found else 0


def _merge(arguments: argparse.Namespace) -> int:
    from contextlib import ExitStack

    from caffecompat.data.rewriting import merge

    kind = _kind(arguments, arguments.databases[0])
    with ExitStack() as stack:
        sources = [stack.enter_context(_open(path)) for path in arguments.databases]
        progress = stack.enter_context(_working())
        count = merge(sources, arguments.output, kind, progress)
    print(f"{arguments.output}: {count} records")
    return 0


def _shuffle(arguments: argparse.Namespace) -> int:
    from caffecompat.data.rewriting import shuffle

    kind = _kind(arguments, arguments.database)
    with _open(arguments.database) as source, _working() as progress:
        count = shuffle(source, arguments.output, kind, arguments.seed, progress)
    print(f"{arguments.output}: {count} records")
    return 0


def _split(arguments: argparse.Namespace) -> int:
    from caffecompat.data.rewriting import split

    kind = _kind(arguments, arguments.database)
    targets = (arguments.first, arguments.second)
    with _open(arguments.database, arguments.backend) as source, _working() as progress:
        counts = split(source, targets, kind, arguments.fraction, arguments.seed, progress)
    for target, count in zip(targets, counts, strict=True):
        print(f"{target}: {count} records")
    return 0


def _sample(arguments: argparse.Namespace) -> int:
    from caffecompat.data.rewriting import sample

    kind = _kind(arguments, arguments.database)
    with _open(arguments.database) as source, _working() as progress:
        sample(source, arguments.output, kind, arguments.count, arguments.seed, progress)
    print(f"{arguments.output}: {arguments.count} records")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from caffecompat.data.exporting import LIST, export

    with _open(arguments.database, arguments.backend) as source, _working() as progress:
        count = export(source, arguments.folder, progress)
    print(f"{arguments.folder}: {count} images and {LIST}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from caffecompat.data.contact_sheet import contact_sheet, value_range
    from caffecompat.proto.atomic_write import atomic_write

    for name in ("count", "columns", "cell"):
        if getattr(arguments, name) < 1:
            raise DataError(f"--{name} is {getattr(arguments, name)}, expected 1 or more")
    encoding = Path(arguments.output).suffix[1:].lower()
    if encoding not in ("png", "jpg", "jpeg"):
        raise DataError(f"{arguments.output}: the name must end in .png or .jpg")
    if bool(arguments.net) == bool(arguments.database):
        raise DataError("give a database, or a net whose data layer to show: --net PROTOTXT")
    images, captions = _from_net(arguments) if arguments.net else _from_database(arguments)
    if not images:
        raise DataError("there are no images to show")
    sheet = contact_sheet(images, captions, arguments.columns, arguments.cell, encoding)
    with atomic_write(arguments.output) as file:
        file.write(sheet)
    shapes = sorted({"x".join(map(str, image.shape)) for image in images})
    print(f"{arguments.output}: {len(images)} images of {', '.join(shapes[:4])}")
    if any(image.dtype.kind == "f" for image in images):
        low, high = value_range(images)
        print(f"black is {low:g}, white is {high:g}")
    return 0


def _from_database(arguments: argparse.Namespace) -> tuple[list[Any], list[str]]:
    from caffecompat.data.datum import decode_datum, parse_datum

    images, captions = [], []
    with _open(arguments.database, arguments.backend) as database:
        last = min(len(database), arguments.first + arguments.count)
        for position in range(arguments.first, last):
            key, value = database.read(position)
            try:
                datum = parse_datum(value)
                images.append(decode_datum(datum, force_color=True))
            except DataError as error:
                place = f"record {position} (key {key.decode(errors='backslashreplace')!r})"
                raise DataError(f"{database.path}: {place}: {error}") from error
            captions.append(str(datum.label))
    return images, captions


def _from_net(arguments: argparse.Namespace) -> tuple[list[Any], list[str]]:
    """Images and labels that a data layer gives; the rest of the net is not built."""
    import numpy as np

    source = _data_layer(arguments)
    images: list[Any] = []
    captions: list[str] = []
    try:
        size = max(source.shapes[0][0], 1)
        index = arguments.first // size
        while len(images) < arguments.count + arguments.first % size:
            tops = [np.asarray(top) for top in source.read(index) or ()]
            if not tops or tops[0].ndim != 4:
                raise DataError(f"{source.context.place}: its first top is no batch of images")
            images.extend(tops[0])
            labels = tops[1].reshape(len(tops[1]), -1) if len(tops) > 1 else [()] * len(tops[0])
            captions.extend(" ".join(f"{value:g}" for value in label[:4]) for label in labels)
            index += 1
    finally:
        source.close()
    chosen = slice(arguments.first % size, arguments.first % size + arguments.count)
    return images[chosen], captions[chosen]


def _data_layer(arguments: argparse.Namespace) -> Source:
    """The data layer to show, set up."""
    from caffecompat.graph import build_graph, net_state
    from caffecompat.layers import Context, Source, catalogue
    from caffecompat.proto.files import read_net

    message, lines = read_net(arguments.net)
    phase = arguments.phase.upper()
    state = net_state(message, phase, arguments.level, stages(arguments))
    names = []
    for node in build_graph(message, state, lines.place, False):
        if node.automatic or node.type == "Input" or node.bottoms:
            continue
        kind = catalogue.find(node.type, node.place)
        if not issubclass(kind, Source):
            continue
        names.append(node.name)
        if arguments.layer in (None, node.name):
            layer = kind(Context(node.phase, arguments.seed, node.place))
            layer.setup(node.message, [])
            return layer
    known = f"; it has: {', '.join(names)}" if names else ""
    wanted = f"data layer {arguments.layer!r}" if arguments.layer else "data layer"
    raise FileProblem(f"{arguments.net}: no {wanted} in phase {phase}{known}")
