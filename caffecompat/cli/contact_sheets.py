"""Action ``dataset show``: a picture of the first images of a database, or of a net's inputs."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffecompat.cli.arguments import add_max_bytes_argument, add_state_arguments, stages
from caffecompat.errors import DataError, FileProblem
from caffecompat.reporting.units import format_shape

if TYPE_CHECKING:
    from caffecompat.layers import Source

_SUFFIXES = (".png", ".jpg", ".jpeg")


def add_show_arguments(parser: argparse.ArgumentParser) -> None:
    """The database or net, the picture, and the choice of images."""
    parser.add_argument(
        "paths",
        metavar="[DB] [OUT.png]",
        nargs="*",
        help="the database, shown as stored, and the picture to write, .png or .jpg (default: the "
        "name of the database and .png, in the current folder)",
    )
    parser.add_argument("--backend", help="lmdb or leveldb (default: recognised by the files)")
    parser.add_argument(
        "--net", metavar="PROTOTXT", help="show the tops of its data layer, after the transforms"
    )
    parser.add_argument("--phase", default="TRAIN", help="TRAIN or TEST (default: TRAIN)")
    add_state_arguments(parser)
    parser.add_argument("--layer", metavar="NAME", help="data layer (default: the first)")
    parser.add_argument(
        "--labels", metavar="FILE", help="names of the labels, one per line, the first for label 0"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of crops, mirroring")
    parser.add_argument("--count", type=int, default=64, metavar="N", help="images (default: 64)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="skip that many records")
    parser.add_argument("--columns", type=int, default=8, metavar="N", help="(default: 8)")
    parser.add_argument("--cell", type=int, default=128, metavar="PIXELS", help="(default: 128)")
    add_max_bytes_argument(parser)


def show(arguments: argparse.Namespace) -> int:
    """Writes the picture and prints what it shows."""
    from caffecompat.data.tools.contact_sheet import contact_sheet, value_range
    from caffecompat.output_files import atomic_write

    for name in ("count", "columns", "cell"):
        if getattr(arguments, name) < 1:
            raise DataError(f"--{name} is {getattr(arguments, name)}, expected 1 or more")
    database, output = _paths(arguments)
    images, captions = _from_net(arguments) if not database else _from_database(database, arguments)
    if not images:
        raise DataError("there are no images to show")
    if arguments.labels:
        captions = _named(captions, arguments.labels, arguments.max_bytes)
    encoding = Path(output).suffix[1:].lower()
    sheet = contact_sheet(images, captions, arguments.columns, arguments.cell, encoding)
    with atomic_write(output) as file:
        file.write(sheet)
    shapes = sorted({format_shape(image.shape) for image in images})
    print(f"{output}: {len(images)} images of {', '.join(shapes[:4])}")
    if any(image.dtype.kind == "f" for image in images):
        low, high = value_range(images)
        print(f"black is {low:g}, white is {high:g}")
    return 0


def _paths(arguments: argparse.Namespace) -> tuple[str, str]:
    """The database, empty with ``--net``, and the picture."""
    given = list(arguments.paths)
    database = "" if arguments.net or not given else given.pop(0)
    is_picture = database.lower().endswith(_SUFFIXES) and not os.path.isdir(database)
    if len(given) > 1 or not (database or arguments.net) or is_picture:
        raise DataError(
            "give a database, or a net whose data layer to show (--net PROTOTXT), and the picture: "
            "caffecompat dataset show DB OUT.png"
        )
    if given:
        if not given[0].lower().endswith(_SUFFIXES):
            raise DataError(f"{given[0]}: the name must end in .png or .jpg")
        return database, given[0]
    name = Path(os.path.abspath(database or arguments.net))
    output = f"{name.stem if arguments.net else name.name}.png"
    if os.path.lexists(output):
        source = [database] if database else ["--net", arguments.net]
        # The user has not named this file, so it must not be overwritten.
        raise FileProblem(
            f"{output}: already exists; name it to replace it, or give another name: "
            f"caffecompat dataset show {shlex.join([*source, output])}"
        )
    return database, output


def _named(captions: list[str], path: str, max_bytes: int | None) -> list[str]:
    """The captions with the names of their labels."""
    from caffecompat.data.sources.image_lists.image_list import read_class_names

    names = read_class_names(path, max_bytes)

    def named(caption: str) -> str:
        known = caption.isdigit() and int(caption) < len(names)
        return f"{caption} {names[int(caption)]}" if known else caption

    return [named(caption) for caption in captions]


def _from_database(path: str, arguments: argparse.Namespace) -> tuple[list[Any], list[str]]:
    from caffecompat.data.backends.database import guess_backend, open_database
    from caffecompat.data.codec.annotated_datum import parse_record
    from caffecompat.data.codec.datum import decode_datum

    images, captions = [], []
    kind = arguments.backend or guess_backend(path) or "LMDB"
    with open_database(path, kind) as database:
        last = min(len(database), arguments.first + arguments.count)
        for position in range(arguments.first, last):
            key, value = database.read(position)
            try:
                datum, objects = parse_record(value)
                images.append(decode_datum(datum, force_color=True))
            except DataError as error:
                place = f"record {position} (key {key.decode(errors='backslashreplace')!r})"
                raise DataError(f"{database.path}: {place}: {error}") from error
            labels = [datum.label] if objects is None else objects.labels.tolist()
            captions.append(" ".join(map(str, labels)))
    return images, captions


def _from_net(arguments: argparse.Namespace) -> tuple[list[Any], list[str]]:
    """Images and labels of a data layer; the rest of the net is not built."""
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
    """The data layer to show, after its setup."""
    from caffecompat.graph import build_graph, net_state
    from caffecompat.layers import BuildOptions, Context, Source, catalogue
    from caffecompat.proto.files import read_net

    message, lines = read_net(arguments.net, max_bytes=arguments.max_bytes)
    phase = arguments.phase.upper()
    state = net_state(message, phase, arguments.level, stages(arguments))
    names = []
    for node in build_graph(message, state, lines.place, False):
        if node.automatic or node.bottoms:
            continue
        kind = catalogue.choose(node.message, "", node.place)
        if not issubclass(kind, Source) or kind.is_input:
            continue
        names.append(node.name)
        if arguments.layer in (None, node.name):
            options = BuildOptions(seed=arguments.seed, max_bytes=arguments.max_bytes)
            layer = kind(Context(node.phase, node.place, options, path=lines.path))
            layer.setup(node.message, [])
            return layer
    known = f"; it has: {', '.join(names)}" if names else ""
    wanted = f"data layer {arguments.layer!r}" if arguments.layer else "data layer"
    raise FileProblem(f"{arguments.net}: no {wanted} in phase {phase}{known}")
