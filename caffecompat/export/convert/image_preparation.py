"""What happens to images before a net: as the user says, as a train_val says, as is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.data.preprocessing_presets import NEEDS_MEAN, PRESETS
from caffecompat.errors import CaffeError, ExportError, UnknownName
from caffecompat.export.definitions import has_inputs
from caffecompat.export.source import Source
from caffecompat.input_files import read_input
from caffecompat.net import Net
from caffecompat.proto.input_layers import input_layers
from caffecompat.reporting.units import format_shape
from caffecompat.weights.known_files import VERY_DEEP, recognise
from caffecompat.weights.mean_file import read_mean, read_mean_values

MAX_LABEL_BYTES = 1 << 24
IMAGE_AXES = 4
COLOURS = 3
TEST_PHASE = 1


@dataclass(frozen=True)
class PreparationOptions:
    """What the user said about images.

    Attributes:
        preset: the name of a preset, or None.
        mean: values separated by commas, or the path of a mean file; None for the preset's.
        labels: a text file with one class per line, or None.
    """

    preset: str | None = None
    mean: str | None = None
    labels: str | None = None


def prepared(source: Source, options: PreparationOptions) -> Source:
    """The source with its preprocessing: the preset, what was found with it, or what is published.

    Raises:
        UnknownName: no such preset.
        ExportError: a mean or labels without any preprocessing to put them in, or a mean that is
            neither numbers nor a file.
        FileProblem, FormatError: the mean file or the labels cannot be read.
    """
    found, notes = source.preprocessing, list(source.notes)
    if options.preset is not None:
        found = _preset(options.preset, source, options)
    if found is None:
        found, more = _of_data_layer(source)
        notes += more
    if found is None and _is_published_vgg(source.path):
        found = PRESETS["vgg"][0](stated_image_size(source))
    if found is None and (options.mean or options.labels):
        raise ExportError(
            f"{source.path}: --mean and --labels need a preprocessing that they belong to; name "
            f"one with --preprocessing ({', '.join(PRESETS)})"
        )
    if found is not None and options.mean:
        found = replace(found, mean=read_means(options.mean))
    if found is not None and options.labels:
        found = replace(found, labels=read_labels(options.labels))
    if found is not None and options.mean:
        _check_means(found.mean, stated_channels(source) or COLOURS, options.mean)
    if found is not None and stated_channels(source) == 1:
        found = _of_one_channel(found, source, options.preset)
    if found is not None and options.labels:
        notes += _other_number_of_labels(found.labels, source, options.labels)
    return replace(source, preprocessing=found, notes=notes)


def _check_means(means: tuple[float, ...], channels: int, text: str) -> None:
    """Refuses means that are neither one for all channels nor one for each.

    Raises:
        ExportError: another number of them.
    """
    if len(means) not in (1, channels):
        raise ExportError(
            f"--mean {text}: has {len(means)} values, and the net takes images of {channels} "
            "channels; give one value for each channel, or one for all"
        )


def _other_number_of_labels(labels: Sequence[str], source: Source, path: str) -> list[str]:
    """A note where no output has as many classes as there are labels."""
    if source.definition is None or not has_inputs(source.definition.message):
        return []
    net = Net(source.definition, shapes_only=True)
    shapes = {version.blob: net.shape_of(version) for version in net.program().versions}
    if any(len(labels) in shape[1:] for shape in shapes.values()):
        return []
    found = ", ".join(f"{name!r} is {format_shape(shape)}" for name, shape in shapes.items())
    return [f"{path}: has {len(labels)} labels, one per line, but the output {found}"]


def stated_image_size(source: Source) -> tuple[int, int] | None:
    """Height and width of the images that the net takes; None if nothing says so."""
    shape = _stated_shape(source)
    return None if shape is None else (shape[2], shape[3])


def stated_channels(source: Source) -> int | None:
    """The number of channels of the images that the net takes; None if nothing says so."""
    shape = _stated_shape(source)
    return _channels_of_weights(source) if shape is None else shape[1]


def _channels_of_weights(source: Source) -> int | None:
    """The channels that the convolutions of a data layer's first top take, where they agree."""
    if source.definition is None:
        return None
    layers = source.definition.message.layer
    images = {layer.top[0] for layer in layers if layer.top and not layer.bottom}
    groups = {
        layer.name: max(1, layer.convolution_param.group)
        for layer in layers
        if layer.type == "Convolution" and list(layer.bottom[:1]) and layer.bottom[0] in images
    }
    found = {
        layer.blobs[0].shape[1] * groups[layer.name]
        for layer in source.weights.layers
        if layer.name in groups and layer.blobs and len(layer.blobs[0].shape) == IMAGE_AXES
    }
    return found.pop() if len(found) == 1 else None


def _stated_shape(source: Source) -> tuple[int, ...] | None:
    """The first input with four axes."""
    if source.definition is None:
        return None
    for layer in input_layers(source.definition.message):
        for shape in layer.input_param.shape:
            if len(shape.dim) == IMAGE_AXES:
                return tuple(map(int, shape.dim))
    return None


def _of_one_channel(found: Preprocessing, source: Source, preset: str | None) -> Preprocessing:
    """Gray images, for a net that takes one channel.

    Raises:
        ExportError: a preset subtracts the means of three channels.
    """
    if len(found.mean) == 1:
        return replace(found, channel_order="gray")
    if preset is None:
        return found
    raise ExportError(
        f"{source.path}: --preprocessing {preset} subtracts the means of {len(found.mean)} "
        "channels, but the net takes images of one channel; give their mean, as in --mean 33.3"
    )


def read_means(text: str) -> tuple[float, ...]:
    """Numbers separated by commas, or the channel means of a mean file (.binaryproto, .npy).

    Raises:
        ExportError: neither.
        FileProblem, FormatError: the file cannot be read.
    """
    means = _numbers(text)
    if means is None:
        if not Path(text).exists():
            raise ExportError(
                f"--mean {text}: expected numbers separated by commas (104,117,123), or a mean file"
            )
        return channel_means(read_mean_values(text))
    if not np.isfinite(means).all():
        raise ExportError(f"--mean {text}: expected finite numbers")
    return means


def read_mean_image(text: str, max_bytes: int | None = None) -> NDArray[np.float32] | None:
    """The mean image (C, H, W) in the file of ``--mean``.

    None if ``text`` has numbers, or names a file with one value for each channel.

    Raises:
        FileProblem, FormatError: the file cannot be read.
    """
    if _numbers(text) is not None:
        return None
    mean = read_mean_values(text, max_bytes)
    return mean if mean.ndim > 1 else None


def _numbers(text: str) -> tuple[float, ...] | None:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return None


def channel_means(mean: np.ndarray) -> tuple[float, ...]:
    """The mean of each channel of a mean, (C, H, W) or (C,)."""
    rows = mean.reshape(len(mean), -1)
    return tuple(float(value) for value in rows.mean(axis=1, dtype=np.float64))


def read_labels(path: str) -> tuple[str, ...]:
    """The lines of a text file, without their ends, a byte order mark, and empty lines at the end.

    Raises:
        FileProblem, FormatError: it cannot be read, or is larger than 16 MiB.
    """
    content = read_input(path, MAX_LABEL_BYTES, "expected one label a line")
    text = content.decode("utf-8-sig", "replace")
    return tuple(text.rstrip().splitlines())


def _preset(name: str, source: Source, options: PreparationOptions) -> Preprocessing:
    if name not in PRESETS:
        raise UnknownName("preprocessing", name, PRESETS, "--preprocessing")
    if name in NEEDS_MEAN and not options.mean:
        raise ExportError(
            f"--preprocessing {name}: its mean is that of your own data; give it with --mean "
            "mean.binaryproto, or as numbers (--mean 104,117,123)"
        )
    return PRESETS[name][0](stated_image_size(source))


def _is_published_vgg(path: Path) -> bool:
    recognition = recognise(path)
    return (
        recognition is not None
        and recognition.exact
        and recognition.published.preparation is VERY_DEEP
    )


def _of_data_layer(source: Source) -> tuple[Preprocessing | None, list[str]]:
    """The transform_param of the net's data layer, that of phase TEST where there is one."""
    if source.definition is None:
        return None, []
    layers = [
        layer
        for layer in source.definition.message.layer
        if layer.HasField("transform_param") and not layer.bottom
    ]
    # Of two data layers the one for TEST says how images are prepared when the net is used.
    layers.sort(key=lambda layer: any(rule.phase == TEST_PHASE for rule in layer.include))
    return _of_transform(layers[-1]) if layers else (None, [])


def _of_transform(layer: Any) -> tuple[Preprocessing, list[str]]:
    transform = layer.transform_param
    mean, notes = _transform_mean(transform, layer.name)
    crop = int(transform.crop_size)
    gray = transform.force_gray or (
        layer.HasField("image_data_param") and not layer.image_data_param.is_color
    )
    found = Preprocessing(
        channel_order="gray" if gray else "BGR",
        mean=mean,
        scale=float(transform.scale),
        resize=_resize(layer),
        crop=(crop, crop) if crop else None,
    )
    return found, notes


def _transform_mean(transform: Any, layer: str) -> tuple[tuple[float, ...], list[str]]:
    if transform.mean_value:
        return tuple(map(float, transform.mean_value)), []
    file = transform.mean_file or transform.crop_mean_file
    if not file:
        return (0.0,), []
    try:
        means = channel_means(read_mean(file))
    except CaffeError as error:
        return (0.0,), [
            f"layer {layer!r}: its mean file cannot be used, and the preprocessing has no mean "
            f"({error}); give one with --mean"
        ]
    return means, [f"layer {layer!r}: of the mean image {file} the mean of each channel is kept"]


def _resize(layer: Any) -> tuple[int, int] | int | None:
    image, transform = layer.image_data_param, layer.transform_param
    if image.new_height and image.new_width:
        return int(image.new_height), int(image.new_width)
    if transform.resize_size:
        return int(transform.resize_size), int(transform.resize_size)
    # In phase TEST the shorter side has the middle of the range.
    middle = (int(transform.img_rand_resize_lower) + int(transform.img_rand_resize_upper)) // 2
    return middle or None
