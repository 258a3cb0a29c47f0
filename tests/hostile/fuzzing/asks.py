"""What is done with an input of each kind: everything in it is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from caffecompat.data.backends.database import Database, open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.codec.images import decode_image, image_shape, is_cut_off
from caffecompat.data.sources.base import Samples
from caffecompat.data.sources.hdf5_rows import HDF5Reader
from caffecompat.data.sources.image_lists.image_list import read_list
from caffecompat.data.sources.image_lists.image_samples import ImageSamples
from caffecompat.data.sources.objects.windows import WindowSamples
from caffecompat.errors import CaffeError, DataError
from caffecompat.logs.parse import read_log, table
from caffecompat.net import Net
from caffecompat.net.analysis.summary import summarise
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.proto import schema
from caffecompat.proto.binary import dialects
from caffecompat.proto.binary.nets import read_binary_net, upgrade_binary_net
from caffecompat.proto.files import read_net
from caffecompat.proto.text.printer import format_text
from caffecompat.solver.setup.settings import read_settings
from caffecompat.solver.snapshots.snapshot_files import snapshot_files
from caffecompat.weights import load_weights, read_state
from caffecompat.weights.description import describe_file

# A net of more values or multiplications than this is not run: it may rightly take long.
_SMALL = 1 << 20
# Records of a database that are looked at.
_RECORDS = 300
_SAMPLES = 8


def all_values(path: Path) -> None:
    """Weights, and every value of them looked at."""
    for layer in load_weights(path, torch_naming()).layers:
        for array in [*layer.blobs, *(layer.diffs or ())]:
            array.sum()


def describe(path: Path) -> None:
    describe_file(path, values=True, naming=torch_naming())


def state_values(path: Path) -> None:
    for array in read_state(path).history:
        array.sum()


def binary_net(path: Path) -> None:
    net, _ = read_binary_net(path)
    format_text(net)


def upgraded_binary(path: Path) -> None:
    net, dialect, _, _ = upgrade_binary_net(path)
    dialects.to_dialect(net, dialect)


def net_text(path: Path) -> None:
    format_text(read_net(path)[0])


def net_shapes(path: Path) -> None:
    """The net built without values; run with them if it is small."""
    net = Net(path, shapes_only=True)
    summary = summarise(net)
    values = sum(math.prod(shape) for row in summary.rows for _, shape in row.tops)
    kinds = {built.type for built in net.layers}
    if values + summary.parameters + summary.multiply_adds > _SMALL or "HDF5Output" in kinds:
        return
    Net(path, phase="train").forward()


def solver_settings(path: Path) -> None:
    settings = read_settings(path)
    snapshot_files(settings.message, settings.path)
    for iteration in (0, 1, 1000):
        settings.policy.rate(iteration)


def log_table(path: Path) -> None:
    log = read_log(path)
    table(log.train)
    table(log.test)


def all_of(work: Iterable[Callable[[], object]]) -> None:
    """Does everything, though some of it is refused, and raises the first refusal at the end."""
    refusals: list[CaffeError] = []
    for one in work:
        try:
            one()
        except CaffeError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def records(kind: str, path: Path) -> None:
    """Keys, records and what they hold, forwards and with a jump."""
    with open_database(path, kind) as database:
        count = min(len(database), _RECORDS)
        for key, _ in zip(database.keys(), range(count), strict=False):
            bytes(key)
        places = (*range(count), 0, len(database) - 1) if count else ()
        all_of(partial(_record, database, index) for index in places)


def _record(database: Database, index: int) -> None:
    decode_datum(parse_datum(database.read(index)[1]))


def datum(path: Path) -> None:
    """A record's bytes, as the Data layer takes them."""
    message = parse_datum(path.read_bytes())
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"force_color": True},
        {"force_gray": True},
    )
    all_of(partial(decode_datum, message, **way) for way in ways)


def image(path: Path) -> None:
    """Header and pixels; None stands for a refusal here."""
    data = path.read_bytes()
    is_cut_off(data)
    shape = image_shape(data)
    decode_image(data, "unchanged")
    decode_image(data, "gray")
    pixels = decode_image(data, "color")
    if shape is None or pixels is None:
        raise DataError("no image")


def image_samples(path: Path) -> None:
    """The first images of a list, each as a sample."""
    with closing(ImageSamples(str(path), read_list(str(path)))) as samples:
        all_of(partial(_sample, samples, ordinal) for ordinal in range(_SAMPLES))


def window_samples(path: Path) -> None:
    layer = schema.new("LayerParameter")
    layer.window_data_param.source = str(path)
    layer.window_data_param.batch_size = 4
    layer.window_data_param.context_pad = 1
    layer.transform_param.crop_size = 6
    with closing(WindowSamples(layer, 0)) as samples:
        all_of(partial(_sample, samples, ordinal) for ordinal in range(_SAMPLES))


def _sample(samples: Samples, ordinal: int) -> None:
    samples.decode(samples.fetch(ordinal))


def hdf5_rows(path: Path) -> None:
    """Two batches, of the data sets that the recorded files have."""
    reader = HDF5Reader(str(path), ["data", "label"], 3)
    for index in range(2):
        for top in reader.batch(index):
            top.sum()
