"""One conversion: read, rewrite, refuse or write, check, and say what to do with the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from caffecompat.errors import ExportError
from caffecompat.export.convert.channel_order import rgb_input
from caffecompat.export.convert.forms import Form, check_free, choose_form
from caffecompat.export.convert.image_preparation import PreparationOptions, prepared
from caffecompat.export.convert.loading_lines import loading_lines, torchvision_lines
from caffecompat.export.convert.opencv_lines import blob_lines
from caffecompat.export.convert.weight_files import (
    array_keys,
    has_torchvision_names,
    through_net,
    with_metadata,
    with_types,
    write_and_read_back,
    write_named_and_read_back,
)
from caffecompat.export.deploy.of_models import fed_by_inputs
from caffecompat.export.graph_pass import graph_passes
from caffecompat.export.model import CaffeModel
from caffecompat.export.outputs import keep_outputs
from caffecompat.export.python_layers import refuse_python_layers
from caffecompat.export.source import Source, read_source, side_file
from caffecompat.export.targets.base import Target, TargetOptions, targets
from caffecompat.export.torchvision.weights import to_torchvision
from caffecompat.export.verify.verification import verify_conversion
from caffecompat.output_files import atomic_write
from caffecompat.proto.files import write_text
from caffecompat.reporting.units import counted
from caffecompat.weights import to_bvlc_batch_norm
from caffecompat.weights.format import NamedFormat

# A source from this size on takes a second or more.
LARGE_BYTES = 64 << 20

Say = Callable[[str], None]


@dataclass(frozen=True)
class ConvertOptions:
    """What the user chose.

    Attributes:
        model: the net's prototxt; None to look for it.
        to: the name of the form to write; None for what the suffix says.
        force: whether an existing file may be replaced.
        verify: compare what was written with what was to be written.
        outputs: blobs that are to be the outputs, so that layers behind them go; () for the net's.
        passes: names of graph passes, applied in this order.
        layout: whose names the state dict has, the target or else the source: "torchvision", or
            None for the layers' names.
        rgb: swap the input channels of the first layers, so that the net takes R, G, B.
        bvlc_batch_norm: split NVCaffe's BatchNorm of five blobs.
        preparation: what the user says about images.
        target: options of targets.
        trust: load a source of a form that can contain code.
        max_bytes: the limit for sizes and claims of files.
        dialect: see :class:`caffecompat.layers.BuildOptions`.
    """

    model: str | None = None
    to: str | None = None
    force: bool = False
    verify: bool = True
    outputs: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    layout: str | None = None
    rgb: bool = False
    bvlc_batch_norm: bool = False
    preparation: PreparationOptions = field(default_factory=PreparationOptions)
    target: TargetOptions = field(default_factory=TargetOptions)
    trust: bool = False
    max_bytes: int | None = None
    dialect: str = ""


def convert(source: Path, target: Path | None, options: ConvertOptions, say: Say) -> Path:
    """Converts a model file.

    Everything that could be refused is refused before anything is written.

    Args:
        source: a weight file or another program's model file; its content decides what it is.
        target: the file to write; None for the source's name with the form's suffix.
        options: what the user chose.
        say: receives the lines for the user.

    Returns:
        The file that was written.

    Raises:
        FileProblem, FormatError, TextError: a file is missing, damaged or in the way.
        UnknownName: no form or pass of that name.
        NetError, WeightsError: definition and weights do not fit each other.
        ExportError: the form cannot hold the model; all layers are named.
    """
    form, path = choose_form(source, target, options.to)
    check_free(source, path, options.force)
    _check_folding(form, options.target)
    of_target = form.is_weights and issubclass(form.format, NamedFormat)
    layout = None if of_target else options.layout
    read = read_source(source, options.model, options.max_bytes, layout, options.trust)
    read = read.of_dialect(options.dialect)
    loaded = _rewritten(prepared(read, options.preparation), options, say)
    for extra in _side_files(loaded, form, path):
        check_free(source, extra, options.force)
    if source.stat().st_size > LARGE_BYTES:
        # Such a file takes seconds, which should not pass in silence.
        say(f"converting {source} ...")
    if form.is_weights and of_target and options.layout:
        _write_layout(loaded, form, path, options, say)
    elif form.is_weights:
        _write_weights(loaded, form, path, options, say)
    else:
        _write_target(loaded, form, path, options, say)
    _write_side_files(loaded, form, path, say)
    _say_preprocessing(loaded, options.target, say)
    return path


def _check_folding(form: Form, options: TargetOptions) -> None:
    """Refuses to leave out what the user wants inside of the file.

    Raises:
        ExportError: files of this form only say what happens to an image before.
    """
    if options.fold_preprocessing and not form.folds_preprocessing:
        able = [name for name in targets if targets.find(name).folds_preprocessing]
        raise ExportError(
            f"--fold-preprocessing: the form {form.name!r} has no place for it; write "
            f"{' or '.join(able)}, or leave the flag out and prepare images in your program"
        )


def _rewritten(source: Source, options: ConvertOptions, say: Say) -> Source:
    """The source after what the user wants changed."""
    for note in source.notes:
        say(note)
    if source.origin:
        say(f"definition: {source.origin}")
    if options.bvlc_batch_norm:
        source = replace(source, weights=to_bvlc_batch_norm(source.weights))
    if options.outputs:
        old = source.model("--output")
        source = source.with_model(keep_outputs(old, options.outputs))
        assert source.definition is not None
        say(source.definition.notes[-1])
    if options.model is not None:
        weights, report = through_net(source, options.max_bytes)
        for name in report.ignored:
            if source.weights[name].blobs:
                say(f"Ignoring source layer {name}")
        source = replace(source, weights=weights)
    for name in options.passes:
        old = source.model(f"--{name}")
        new = graph_passes.find(name)(old)
        # A pass that has nothing to change gives the model itself.
        source = source if new is old else source.with_model(new)
        for note in new.definition.notes[len(old.definition.notes) :]:
            say(note)
        say(f"--{name}: nothing to change" if new is old else f"applied --{name}")
    if options.rgb:
        model, lines = rgb_input(source.model("--rgb"))
        source = replace(source, weights=model.weights, preprocessing=model.preprocessing)
        for line in lines:
            say(line)
    return source


def _write_weights(
    source: Source, form: Form, path: Path, options: ConvertOptions, say: Say
) -> None:
    with_types(source)
    weights = with_metadata(source) if form.format.holds_metadata else source.weights
    arrays = write_and_read_back(weights, path, form.name, options.verify)
    layers = sum(1 for layer in weights.values() if layer.blobs)
    values = sum(blob.size for layer in weights.values() for blob in layer.blobs)
    checked = f"; read back: {counted(arrays, 'array')} equal bit for bit" if options.verify else ""
    say(
        f"wrote {path}: {counted(layers, 'layer')} with parameters, {counted(values, 'value')}"
        f"{checked}"
    )
    # A pass may have changed the definition; then it lies beside the weights.
    own = source.own_definition or source.carried
    prototxt = str(_prototxt(path)) if own else options.model or source.beside
    for line in loading_lines(path, form.name, array_keys(weights, form.name), prototxt):
        say(line)
    if form.name.startswith("caffemodel") and not any(layer.type for layer in weights.layers):
        say(
            "its layers have no types, which Caffe does not need and inspect would show; "
            "--model NET.prototxt adds them"
        )
        if has_torchvision_names(source.weights):
            say(
                "its layers have the names of torchvision's modules; to give them those of a Caffe "
                "net, add --model NET.prototxt --layout torchvision"
            )


def _write_layout(
    source: Source, form: Form, path: Path, options: ConvertOptions, say: Say
) -> None:
    source = replace(source, weights=with_metadata(source))
    named, architecture = to_torchvision(source.model(f"--layout {options.layout}"))
    arrays = write_named_and_read_back(named, path, form.name, options.verify)
    checked = f"; read back: {counted(arrays, 'array')} equal bit for bit" if options.verify else ""
    count = counted(len(named.arrays), "array")
    say(f"wrote {path}: torchvision's {architecture}, {count}{checked}")
    for line in torchvision_lines(path, form.name, list(named.arrays), architecture):
        say(line)
    if not options.rgb:
        say("the net takes B, G, R as before; --rgb makes it take R, G, B")


def _write_target(
    source: Source, form: Form, path: Path, options: ConvertOptions, say: Say
) -> None:
    target = targets.find(form.name)(options.target)
    model = source.model(f"the form {form.name!r}")
    if not target.is_definition:
        model = fed_by_inputs(model, say)
        refuse_python_layers(model)
    target.refuse(model)
    target.write(model, path)
    say(f"wrote {path}")
    for line in target.loading_lines(model, path):
        say(line)
    if options.verify and not target.is_definition:
        _verify(target, model, path, say)
        if options.target.program in target.programs:
            for line in verify_conversion(model, path, engine=options.target.program):
                say(f"{options.target.program}: {line}")


def _verify(target: Target, model: CaffeModel, path: Path, say: Say) -> None:
    """Runs source and target on the same inputs, where something runs the target's form.

    Raises:
        ExportError: they differ by more than the tolerance.
    """
    if target.engine is None:
        say("not verified: nothing here runs such a file")
        return
    for line in verify_conversion(model, path, engine=target.engine):
        say(line)


def _side_files(source: Source, form: Form, path: Path) -> list[Path]:
    """What is written beside the target."""
    found = []
    if source.preprocessing is not None and not form.holds_preprocessing:
        found.append(side_file(path))
    if form.is_weights and _needs_prototxt(source, path):
        found.append(_prototxt(path))
    return found


def _needs_prototxt(source: Source, path: Path) -> bool:
    """Whether the definition would not be on the disk otherwise; a prototxt there is kept."""
    return source.own_definition or (source.carried and not _prototxt(path).exists())


def _write_side_files(source: Source, form: Form, path: Path, say: Say) -> None:
    for extra in _side_files(source, form, path):
        if extra == _prototxt(path):
            assert source.definition is not None
            write_text(source.definition.message, extra)
            say(f"wrote {extra}: the definition")
        else:
            assert source.preprocessing is not None
            with atomic_write(extra) as file:
                file.write(source.preprocessing.to_json().encode())
            say(f"wrote {extra}: the preprocessing")


def _say_preprocessing(source: Source, options: TargetOptions, say: Say) -> None:
    if source.preprocessing is None:
        if options.program:
            say(f"for {options.program}: the preprocessing is not known; --preprocessing names one")
        return
    say(f"preprocessing: {source.preprocessing.sentence()}")
    if options.fold_preprocessing:
        order = "gray" if source.preprocessing.channel_order == "gray" else "R, G, B"
        say(
            f"of these the file itself does mean, scale and channel order: it takes {order} from 0 "
            "to 1"
        )
    if options.program:
        say(f"for {options.program}:")
        for line in blob_lines(source.preprocessing, options.fold_preprocessing):
            say(f"  {line}")


def _prototxt(path: Path) -> Path:
    """The prototxt beside a weight file."""
    for ending in (".caffemodel.h5", ".caffemodel"):
        if path.name.endswith(ending):
            return path.with_name(path.name.removesuffix(ending) + ".prototxt")
    return path.with_suffix(".prototxt")
