"""A model as it is read for a conversion, and the registry of other programs' model files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import ExportError
from caffecompat.export.definitions import definition_in, find_definition
from caffecompat.export.model import CaffeModel
from caffecompat.export.torchvision.weights import LAYOUT, from_torchvision
from caffecompat.input_files import read_input
from caffecompat.net.definition import Definition, read_definition
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.registry import Registry
from caffecompat.weights import Weights, load_weights
from caffecompat.weights.array_names import NamedArrays
from caffecompat.weights.files import read_named
from caffecompat.weights.format import HEAD_BYTES
from caffecompat.weights.mapped import read_head

PREPROCESSING = "preprocessing"
TORCHVISION_IMAGES = (
    "images: torchvision's weights take R, G, B from 0 to 1, minus mean=[0.485, 0.456, 0.406], "
    "divided by std=[0.229, 0.224, 0.225]; Caffe's transform_param has one scale for all channels, "
    "so prepare images in your program; --rgb makes the net take B, G, R"
)
# The file with the preprocessing beside a model file whose format has no place for it.
SIDE_SUFFIX = ".preprocessing.json"
MAX_SIDE_BYTES = 1 << 24


@dataclass(frozen=True)
class Source:
    """What was read.

    Attributes:
        path: the file.
        weights: its weights by layer.
        definition: its net's definition, or None if there is none to be found.
        origin: where the definition is from, for a line to the user.
        preprocessing: what happens to an image before; None if nothing says so.
        own_definition: whether the definition is known from this file alone, so that a target
            without a place for it gets a prototxt beside it.
        notes: lines for the user.
        beside: the prototxt beside the weights that was found; "" if it was not looked for.
        carried: whether the definition is in the source, and no prototxt has it.
    """

    path: Path
    weights: Weights
    definition: Definition | None = None
    origin: str = ""
    preprocessing: Preprocessing | None = None
    own_definition: bool = False
    notes: list[str] = field(default_factory=list)
    beside: str = ""
    carried: bool = False

    def model(self, purpose: str) -> CaffeModel:
        """The model with its definition.

        Raises:
            ExportError: the definition is not known; the message names what it is needed for.
        """
        if self.definition is None:
            raise ExportError(
                f"{self.path}: {purpose} needs the net's definition, which is neither in this file "
                "nor alone beside it; give it with --model deploy.prototxt"
            )
        return CaffeModel(self.definition, self.weights, self.preprocessing, str(self.path))

    def of_dialect(self, dialect: str) -> Source:
        """This source with a definition whose layer types are those of a fork; "" changes nothing.

        See :class:`caffecompat.layers.BuildOptions`.
        """
        if not dialect or self.definition is None:
            return self
        return replace(self, definition=replace(self.definition, dialect=dialect))

    def leniently(self) -> Source:
        """This source with a definition whose nets pass over unsupported settings of forks."""
        if self.definition is None:
            return self
        return replace(self, definition=replace(self.definition, lenient=True))

    def with_model(self, model: CaffeModel) -> Source:
        """This source with another definition, weights and preprocessing."""
        return replace(
            self,
            definition=model.definition,
            weights=model.weights,
            preprocessing=model.preprocessing,
            own_definition=True,
        )


class ModelFile:
    """A model file of another program that has the definition in it; one per file of ``sources/``.

    Attributes:
        max_bytes: the limit for the size of the file and of its claimed content; None for the
            default.
        trust: whether the user knows where the file is from, so that code in it may run.
    """

    max_bytes: int | None = None
    trust: bool = False

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the file has this form, by its first bytes or by opening it."""
        raise NotImplementedError

    def read(self, path: Path) -> CaffeModel:
        """The model.

        Raises:
            FileProblem, FormatError: it is unreadable, damaged or claims too much.
            ExportError: it has layers that Caffe does not have; all are named.
        """
        raise NotImplementedError


model_files: Registry[type[ModelFile]] = Registry("model file", "caffecompat.export.sources")
"""Other programs' model files; a new file in ``sources/`` needs no other change."""


def read_source(
    path: Path,
    model: str | Definition | None,
    max_bytes: int | None = None,
    layout: str | None = None,
    trust: bool = False,
) -> Source:
    """Reads a weight file or another program's model file, and finds the definition.

    Args:
        path: the file; its content decides what it is.
        model: the prototxt that the user gave, or its definition.
        max_bytes: the limit for sizes and claims.
        layout: the layout of a state dict; None for what its metadata say, or layer names.
        trust: load a file of a form that can contain code.

    Raises:
        FileProblem, FormatError, TextError: a file is missing or damaged.
        ExportError: as :meth:`ModelFile.read`.
    """
    head = read_head(path, HEAD_BYTES)
    given = None if model is None else read_definition(model, max_bytes=max_bytes)
    for name in model_files:
        reader = model_files.find(name)()
        reader.max_bytes, reader.trust = max_bytes, trust
        if reader.sniff(head, path):
            found = reader.read(path)
            definition = found.definition if given is None else given
            origin = "from the file" if given is None else str(model)
            notes = list(found.definition.notes) if given is None else []
            return Source(
                path, found.weights, definition, origin, found.preprocessing, given is None, notes
            )
    arrays = read_named(path, max_bytes)
    if arrays is not None and (layout or arrays.metadata.get(LAYOUT)):
        return _from_layout(path, arrays, given, str(model))
    if layout:
        raise ExportError(
            f"{path}: --layout {layout} is about a state dict, .pt or .safetensors, and this is "
            "none"
        )
    weights = load_weights(path, torch_naming(), max_bytes)
    preprocessing = _preprocessing(path, weights)
    if given is not None:
        return Source(path, weights, given, str(model), preprocessing)
    located, notes = find_definition(path, weights)
    if located is None:
        return Source(path, weights, preprocessing=preprocessing, notes=notes)
    where = f"{located.path} ({located.origin})" if located.path else located.origin
    beside = str(located.path or "")
    carried = located.path is None
    return Source(
        path, weights, located.definition, where, preprocessing, False, notes, beside, carried
    )


def _from_layout(path: Path, arrays: NamedArrays, given: Definition | None, model: str) -> Source:
    """A state dict of torchvision's net as a Caffe net's weights."""
    origin, definition = model, given
    if definition is None:
        definition, origin = definition_in(arrays.metadata, path), "from the file's metadata"
    if definition is None:
        raise ExportError(
            f"{path}: weights under torchvision's names need the net's definition; give it with "
            "--model deploy.prototxt"
        )
    weights, architecture, left = from_torchvision(arrays, definition, str(path))
    notes = [f"these are the weights of torchvision's {architecture}"]
    if left:
        notes.append(f"not used: {len(left)} arrays that only training needs, such as {left[0]}")
    preprocessing = _preprocessing(path, weights)
    if preprocessing is None:
        notes.append(TORCHVISION_IMAGES)
    found = Source(path, weights, definition, origin, preprocessing, False, notes)
    return replace(found, carried=given is None)


def side_file(path: Path) -> Path:
    """The file for the preprocessing beside a model file."""
    return path.with_name(path.name + SIDE_SUFFIX)


def _preprocessing(path: Path, weights: Weights) -> Preprocessing | None:
    text = weights.metadata.get(PREPROCESSING)
    if text is not None:
        return Preprocessing.from_json(text, str(path))
    beside = side_file(path)
    if not beside.exists():
        return None
    content = read_input(beside, MAX_SIDE_BYTES, "expected the JSON that convert writes").decode(
        "utf-8", "replace"
    )
    return Preprocessing.from_json(content, str(beside))
