"""The readers that data layers describe, opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from caffecompat.data.backends.database import Database, open_database
from caffecompat.data.counter_rng import pick_one
from caffecompat.data.loader.prefetch import PREFETCH, BatchReader
from caffecompat.data.read_options import DEFAULTS, ReadOptions
from caffecompat.data.sources.base import DatabaseSamples, Samples
from caffecompat.data.sources.documents import DocumentSamples, DocumentSettings
from caffecompat.data.sources.flow_files import FlowSamples
from caffecompat.data.sources.frame_lists import FrameSamples, FrameSettings, read_videos
from caffecompat.data.sources.hdf5_rows import HDF5Reader
from caffecompat.data.sources.image_lists.image_list import read_list
from caffecompat.data.sources.image_lists.image_samples import ImageSamples, ListSettings
from caffecompat.data.sources.label_grids.dense_labels import DenseLabelSamples
from caffecompat.data.sources.label_grids.label_maps import (
    LabelMapSettings,
    MapSamples,
    read_map_list,
)
from caffecompat.data.sources.label_grids.sliced_maps import (
    BinSamples,
    Grid,
    SlicedMapSamples,
    SliceSettings,
    read_two_lists,
)
from caffecompat.data.sources.objects.annotated import AnnotatedSamples
from caffecompat.data.sources.objects.box_list import BoxSamples, read_box_list
from caffecompat.data.sources.objects.region_images import Order, RegionSamples, RegionSettings
from caffecompat.data.sources.objects.region_lists import RegionImage
from caffecompat.data.sources.objects.windows import WindowSamples
from caffecompat.data.sources.selected_records import SelectedSamples, read_selection
from caffecompat.data.transforms.transform import Transform
from caffecompat.errors import DataError
from caffecompat.proto import schema
from caffecompat.proto.schema import Message


def open_reader(layer: Message, phase: str, options: ReadOptions = DEFAULTS) -> BatchReader:
    """The reader that a Data layer's ``data_param`` and ``transform_param`` describe.

    ``rand_skip``, ``force_encoded_color`` and the transform fields of ``data_param`` have no
    effect, as in Caffe. With the forks' ``shuffle`` each pass has an order of its own, and with
    ``selective_list`` only the listed records are read.

    Args:
        layer: a LayerParameter.
        phase: ``"TRAIN"`` or ``"TEST"``.

    Raises:
        FileProblem, FormatError, DataError: the database or the mean file cannot be used.
    """
    parameter = layer.data_param
    transform = Transform(layer.transform_param, phase)
    with _database(parameter.source, parameter.backend) as database:
        seed = options.seed if parameter.shuffle else None
        samples = DatabaseSamples(database, transform, seed)
        if parameter.selective_list:
            listed = read_selection(parameter.selective_list, options.max_bytes)
            samples = SelectedSamples(database, transform, listed, seed)
        return BatchReader(
            samples, transform, parameter.batch_size, options, prefetch=parameter.prefetch
        )


def open_annotated_reader(
    layer: Message,
    phase: str,
    options: ReadOptions = DEFAULTS,
    kind: type[AnnotatedSamples] = AnnotatedSamples,
) -> tuple[BatchReader, bool]:
    """The reader that an AnnotatedData layer describes.

    Args:
        layer: a LayerParameter.
        phase: ``"TRAIN"`` or ``"TEST"``.
        kind: how records become samples.

    Returns:
        the reader, and whether a record has boxes, so that the batch's labels are one array of rows
        for each image; else they are numbers.

    Raises:
        FileProblem, FormatError, DataError: the database or the mean file cannot be used, or a
            setting is impossible.
    """
    parameter = layer.data_param
    transform = Transform(layer.transform_param, phase)
    with _database(parameter.source, parameter.backend) as database:
        samples = kind(database, layer, phase, transform, options.seed)
        reader = BatchReader(
            samples, transform, parameter.batch_size, options, prefetch=parameter.prefetch
        )
    return reader, samples.has_boxes


def open_image_reader(layer: Message, phase: str, options: ReadOptions = DEFAULTS) -> BatchReader:
    """The reader that an ImageData layer's ``image_data_param`` and ``transform_param`` describe.

    Args:
        layer: a LayerParameter.
        phase: ``"TRAIN"`` or ``"TEST"``.

    Raises:
        FileProblem, FormatError, DataError: the list or the mean file cannot be used.
    """
    p = layer.image_data_param
    if (p.new_height == 0) != (p.new_width == 0):
        raise DataError(
            f"image_data_param: new_height is {p.new_height} and new_width is {p.new_width}; "
            "set both, or neither"
        )
    samples = ImageSamples(
        p.source,
        read_list(p.source, len(layer.top) > 1, options.max_bytes),
        _list_settings(p, options),
        size=(p.new_height, p.new_width) if p.new_height else None,
    )
    transform = Transform(layer.transform_param, phase)
    return BatchReader(
        samples, transform, p.batch_size, options, prefetch=layer.data_param.prefetch
    )


def open_box_reader(layer: Message, phase: str, options: ReadOptions = DEFAULTS) -> BatchReader:
    """The reader that a BoxData layer describes; its labels are those of ``box_label``.

    Args:
        layer: a LayerParameter.
        phase: ``"TRAIN"`` or ``"TEST"``.

    Raises:
        FileProblem, FormatError: the list or the mean file cannot be read.
        DataError: a line of the list has another form, or a label that is no class.
    """
    p = layer.image_data_param
    classes = layer.box_data_param.classes
    entries = read_box_list(p.source, options.max_bytes, classes if classes > 1 else None)
    transform = Transform(layer.transform_param, phase)
    samples = BoxSamples(p.source, entries, transform, _list_settings(p, options))
    return BatchReader(
        samples, transform, p.batch_size, options, prefetch=layer.data_param.prefetch
    )


def open_map_reader(
    parameter: Message, settings: LabelMapSettings, options: ReadOptions = DEFAULTS
) -> BatchReader:
    """The reader of images with label maps; its labels are those of ``MapSamples.label``.

    Args:
        parameter: an ImageDataParameter, or a DenseImageDataParameter, which has its fields.
        settings: what happens to images and maps.

    Raises:
        FileProblem, FormatError, DataError: the list cannot be used.
    """
    p = parameter
    entries = read_map_list(p.source, settings.kind, options.max_bytes)
    samples = MapSamples(p.source, entries, settings, _list_settings(p, options))
    return _reader_of_finished(samples, p.batch_size, options)


def open_sliced_map_reader(
    parameter: Message,
    steps: LabelMapSettings,
    settings: SliceSettings,
    options: ReadOptions = DEFAULTS,
) -> BatchReader:
    """The reader of images with grids of labels.

    Args:
        parameter: an ImageLabelDataParameter.
        steps: crop, flip, mean and scale of images and maps.
        settings: what else happens to them.

    Raises:
        FileProblem, FormatError, DataError: a list cannot be used.
    """
    p = parameter
    folders = (p.image_dir, p.label_dir)
    if folders == ("", ""):
        folders = (p.data_dir, p.data_dir)
    entries = read_two_lists(p.image_list_path, p.label_list_path, folders, options.max_bytes)
    taken = ListSettings(shuffle=p.shuffle, seed=options.seed, skip=_skipped(p, options))
    samples = SlicedMapSamples(p.image_list_path, entries, steps, settings, taken)
    return _reader_of_finished(samples, p.batch_size, options)


def open_bin_reader(
    parameter: Message, labels: Grid, grid: Grid | None, options: ReadOptions = DEFAULTS
) -> BatchReader:
    """The reader of arrays with grids of labels.

    Args:
        parameter: a BinLabelDataParameter.
        labels: which pixels of the label images are labels.
        grid: which places of the arrays count; None for all.

    Raises:
        FileProblem, FormatError, DataError: a list cannot be used.
    """
    p = parameter
    folders = (p.bin_dir, p.label_dir)
    entries = read_two_lists(p.bin_list_path, p.label_list_path, folders, options.max_bytes)
    taken = ListSettings(shuffle=p.shuffle, seed=options.seed)
    samples = BinSamples(p.bin_list_path, entries, labels, grid, p.mirror, taken)
    return _reader_of_finished(samples, p.batch_size, options)


def open_dense_label_reader(
    layer: Message, settings: LabelMapSettings, options: ReadOptions = DEFAULTS
) -> BatchReader:
    """The reader of a database with label maps; its labels are those of ``MapSamples.label``.

    Args:
        layer: the LayerParameter of an ImageSegUniformSizeData layer.
        settings: what happens to images and maps.

    Raises:
        FileProblem, FormatError, DataError: the database cannot be used.
    """
    p, t = layer.data_param, layer.transform_param
    with _database(p.source, p.backend) as database:
        samples = DenseLabelSamples(database, settings, t.force_color, t.force_gray, options.seed)
        return _reader_of_finished(samples, p.batch_size, options, p.prefetch)


def open_document_reader(
    layer: Message, settings: DocumentSettings, options: ReadOptions = DEFAULTS
) -> BatchReader:
    """The reader that a DocData layer describes.

    Args:
        layer: the LayerParameter.
        settings: how records become samples.

    Raises:
        FileProblem, FormatError, DataError: the database cannot be used.
    """
    p = layer.doc_data_param
    with _database(p.sources[0], p.backend) as database:
        samples = DocumentSamples(database, settings, options.seed)
        return _reader_of_finished(samples, p.batch_size, options)


def open_flow_reader(layer: Message, options: ReadOptions = DEFAULTS) -> BatchReader:
    """The reader that a FloData layer describes.

    Raises:
        FileProblem, FormatError, DataError: the list cannot be used.
    """
    p = layer.image_data_param
    samples = FlowSamples(p.source, _list_settings(p, options), options.max_bytes)
    return _reader_of_finished(samples, p.batch_size, options)


def open_video_reader(
    parameter: Message, settings: FrameSettings, options: ReadOptions = DEFAULTS
) -> BatchReader:
    """The reader of clips of videos whose frames are image files.

    Args:
        parameter: a VideoDataParameter.
        settings: what happens to frames.

    Raises:
        FileProblem, FormatError, DataError: the list cannot be used.
    """
    p = parameter
    videos = read_videos(p.source, options.max_bytes)
    taken = ListSettings(shuffle=p.shuffle, seed=options.seed)
    samples = FrameSamples(p.source, videos, settings, taken)
    return _reader_of_finished(samples, p.batch_size, options)


def open_region_reader(
    parameter: Message,
    images: list[RegionImage],
    settings: RegionSettings,
    order: Order | None,
    options: ReadOptions = DEFAULTS,
) -> BatchReader:
    """The reader of images with boxes; its labels are ``RegionLabel`` objects.

    Args:
        parameter: an ImageGtDataParameter, DetectionDataParameter or EvalDataParameter.
        images: those of its list.
        settings: what happens to them.
        order: their order each time through; None for that of the list.
    """
    p = parameter
    samples = RegionSamples(p.source, images, p.root_folder, settings, options.seed, order)
    return _reader_of_finished(samples, p.batch_size, options)


def open_window_reader(layer: Message, options: ReadOptions = DEFAULTS) -> BatchReader:
    """The reader that a WindowData layer describes.

    ``scale`` comes from ``window_data_param``, as in Caffe, and ``crop_size``, ``mirror`` and the
    mean from ``transform_param``.

    Raises:
        FileProblem, FormatError: the window file or the mean file cannot be read.
        DataError: a setting or a window that Caffe refuses, too; an extension field.
    """
    p = layer.window_data_param
    if p.batch_size < 1:
        raise DataError(f"{p.source}: batch_size is {p.batch_size}, expected 1 or more")
    samples = WindowSamples(layer, options.seed, options.max_bytes)
    return _reader_of_finished(samples, p.batch_size, options, layer.data_param.prefetch)


def open_hdf5_reader(layer: Message, options: ReadOptions = DEFAULTS) -> HDF5Reader:
    """The reader that an HDF5Data layer's ``hdf5_data_param`` and tops describe.

    Raises:
        DataError: the layer has a transform_param, which HDF5Data does not apply.
        CaffeError: as :class:`HDF5Reader`.
    """
    if layer.HasField("transform_param"):
        raise DataError(
            "HDF5Data does not transform data; remove transform_param and store the values as "
            "the net needs them"
        )
    p = layer.hdf5_data_param
    return HDF5Reader(p.source, layer.top, p.batch_size, p.shuffle, options)


@contextmanager
def _database(source: str, backend: int) -> Iterator[Database]:
    """Context with the database that a field names; it is closed if no reader can have it.

    Args:
        backend: a value of DataParameter.DB.
    """
    names = {number: name for name, number in schema.enum_names("DataParameter.DB").items()}
    database = open_database(source, names[backend])
    try:
        yield database
    except DataError:
        database.close()
        raise


def _reader_of_finished(
    samples: Samples, batch_size: int, options: ReadOptions, prefetch: int = PREFETCH
) -> BatchReader:
    """The reader of samples that leave nothing for a transform to do."""
    nothing = Transform(schema.new("TransformationParameter"), "TEST")
    return BatchReader(samples, nothing, batch_size, options, prefetch=prefetch)


def _list_settings(parameter: Message, options: ReadOptions) -> ListSettings:
    """Those in an ImageDataParameter."""
    p, skip = parameter, _skipped(parameter, options)
    return ListSettings(p.root_folder, p.is_color, p.shuffle, options.seed, skip)


def _skipped(parameter: Message, options: ReadOptions) -> int:
    """How many entries are left out at the start, which ``rand_skip`` draws."""
    if not parameter.rand_skip:
        return 0
    return pick_one(options.seed, 0, "rand_skip", parameter.rand_skip)
