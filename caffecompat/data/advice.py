"""Error messages about missing inputs of data layers, with the commands that create them.

One message names all missing inputs of the definition, including those of other phases. Its
commands can be pasted into a shell.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from dataclasses import dataclass
from typing import NoReturn

from caffecompat.errors import CaffeError, FileProblem
from caffecompat.input_files import counterpart, elsewhere, folder_with
from caffecompat.proto import schema
from caffecompat.proto.schema import Message
from caffecompat.weights.mean_file import read_mean

_IMAGES = "IMAGES/"
_LISTS = {"TRAIN": "TRAIN.txt", "TEST": "VAL.txt", "": "LIST.txt"}
# A training scale in the name of a database: ilsvrc12_train_S384_lmdb.
_NAMED_SIDE = re.compile(r"(?:^|[_/-])S([0-9]{2,4})(?:[_./-]|$)")
_MNIST = {"TRAIN": "train", "TEST": "t10k", "": "train"}


@dataclass(frozen=True)
class MissingInput:
    """An input that does not exist.

    Attributes:
        path: its path.
        what: its kind ("database").
        command: the command that creates it.
        hints: explanations of placeholders in the command.
    """

    path: str
    what: str
    command: str
    hints: tuple[str, ...] = ()


def raise_missing(
    own: MissingInput, wanted: list[MissingInput], prototxt: str | None = None
) -> NoReturn:
    """Raises for an input ``own`` that is not there.

    Args:
        wanted: all inputs of the net that are not there, ``own`` among them.
        prototxt: the file that names them.

    Raises:
        FileProblem: an input is missing; the message has the commands that create all of them, or
            the folder to start in if the input is there from another one, or says that slashes
            in place of the backslashes of Windows name it.
    """
    slashed = own.path.replace("\\", "/")
    if slashed != own.path and os.path.exists(slashed):
        raise FileProblem(
            f"{own.path}: there is no {own.what} (from {os.getcwd()}), but there is {slashed}; "
            f'write "{slashed}" into {prototxt or "the definition"}'
        )
    folder = folder_with(own.path, prototxt)
    if folder is not None:
        raise FileProblem(
            f"{own.path}: there is no {own.what} (from {os.getcwd()}{elsewhere(folder)}); run from "
            f"that folder: cd {shlex.quote(str(folder))}"
        )
    here = counterpart(own.path, prototxt)
    if here is not None:
        raise FileProblem(
            f"{own.path}: there is no {own.what} (from {os.getcwd()}); if {here} is meant, "
            f'write "{here}" into {prototxt or "the definition"}'
        )
    # Sources before mean files, which are made from them.
    ordered = sorted(wanted, key=lambda missing: missing.what == "mean file")
    commands = list(dict.fromkeys(missing.command for missing in ordered))
    hints = list(dict.fromkeys(hint for missing in ordered for hint in missing.hints))
    rest = [missing.path for missing in ordered if missing.path != own.path]
    also = f" and {', '.join(rest)}" if rest else ""
    explained = f" ({'; '.join(hints)})" if hints else ""
    where = "" if os.path.isabs(own.path) else f" (from {os.getcwd()})"
    raise FileProblem(
        f"{own.path}: there is no {own.what}{where}; to make it{also}{explained}, run: "
        f"{' && '.join(commands)}"
    )


def suggested_side(crop: int) -> int:
    """The usual smallest side of training images for a crop: 256 for crops of 224 and 227."""
    return 256 if 224 <= crop <= 256 else -(-crop * 8 // 7)


def phase_of(layer: Message) -> str:
    """The phase that a layer's rules let it into; empty where they say nothing."""
    phases = {rule.phase for rule in layer.include if rule.HasField("phase")}
    return ("TRAIN", "TEST")[phases.pop()] if len(phases) == 1 else ""


def missing_database(layer: Message, phase: str) -> MissingInput | None:
    """The database of ``data_param``, if it is not there."""
    source = layer.data_param.source
    if not source or os.path.exists(source):
        return None
    names = {number: name for name, number in schema.enum_names("DataParameter.DB").items()}
    is_leveldb = names[layer.data_param.backend] == "LEVELDB"
    hints = []
    if is_leveldb and importlib.util.find_spec("plyvel") is None:
        hints.append("write 'backend: LMDB' into data_param first")
        is_leveldb = False
    known = _published(source, phase, is_leveldb)
    if known is not None:
        return MissingInput(source, "database", known, tuple(hints))
    listing = _LISTS[phase]
    hints.append(f"{_IMAGES}: the folder of the images")
    hints.append(f"{listing}: a name and a label per line")
    flags = _size_flags(layer)
    if layer.transform_param.force_gray:
        flags.append("--gray")
    if phase != "TEST":
        flags.append("--shuffle")
    if is_leveldb:
        flags.append("--backend leveldb")
    words = ["caffecompat convert-imageset", *flags, _IMAGES, listing, shlex.quote(source)]
    return MissingInput(source, "database", " ".join(words), tuple(hints))


def missing_box_list(source: str) -> list[MissingInput]:
    """A list of images and boxes, if it is not there."""
    if not source or os.path.exists(source):
        return []
    hints = (
        "ANNOTATIONS/: a folder of XML files",
        "CLASSES.txt: the names of the classes in them, one per line",
    )
    command = f"caffecompat convert-boxes ANNOTATIONS/ CLASSES.txt {shlex.quote(source)}"
    return [MissingInput(source, "list of boxes", command, hints)]


def _size_flags(layer: Message) -> list[str]:
    """Flags of convert-imageset for an image size that the layer can use."""
    transform = layer.transform_param
    crop = int(transform.crop_size)
    if transform.HasField("mean_file"):
        size = _size_of_mean(transform.mean_file)
        if size is None and crop:
            size = (suggested_side(crop), suggested_side(crop))
        if size is not None:
            # Every record must have the size of the mean image.
            return [f"--encoded --resize-height {size[0]} --resize-width {size[1]}"]
    named = _NAMED_SIDE.search(layer.data_param.source)
    side = int(named[1]) if named else int(transform.img_rand_resize_upper)
    if side < crop or not side:
        side = suggested_side(crop)
    # Without a crop all images of a batch need one size, which is not known here.
    return [f"--encoded --min-side {side}"] if side else ["--check-size"]


def _size_of_mean(path: str) -> tuple[int, int] | None:
    try:
        mean = read_mean(path)
    except CaffeError:
        return None
    return mean.shape[1], mean.shape[2]


def _published(source: str, phase: str, is_leveldb: bool) -> str | None:
    """The command that creates a database of Caffe's examples, recognised by its name."""
    folder, name = os.path.split(os.path.normpath(source))
    kind = "leveldb" if is_leveldb else "lmdb"
    backend = f" --backend {kind}"
    files = f"{_MNIST[phase]}-images-idx3-ubyte {_MNIST[phase]}-labels-idx1-ubyte"
    if "mnist" in name and "siamese" in name:
        return f"caffecompat convert-mnist-siamese-data{backend} {files} {shlex.quote(source)}"
    if "mnist" in name:
        return f"caffecompat convert-mnist-data{backend} {files} {shlex.quote(source)}"
    if name in (f"cifar10_train_{kind}", f"cifar10_test_{kind}"):
        target = shlex.quote(folder or ".")
        return f"caffecompat convert-cifar-data cifar-10-batches-bin {target} {kind}"
    return None


def _missing_mean(layer: Message) -> str | None:
    """The mean file of ``transform_param``, if it is not there."""
    transform = layer.transform_param
    path = str(transform.mean_file)
    return path if transform.HasField("mean_file") and not os.path.exists(path) else None


def mean_of_windows(layer: Message) -> MissingInput | None:
    """The mean file of a window file's images, if it is not there."""
    path = _missing_mean(layer)
    if path is None:
        return None
    command = f"caffecompat compute-image-mean DB {shlex.quote(path)}"
    return MissingInput(path, "mean file", command, ("DB: what the net's first weights come from",))


def mean_of_database(layer: Message, phase: str, definition: Message) -> MissingInput | None:
    """The mean file of a database, if it is not there.

    It is made from a database of ``definition`` that a layer with this mean file reads, the one
    to train on before others.
    """
    path = _missing_mean(layer)
    if path is None:
        return None
    sources = [
        (phase_of(other) == "TEST", other.data_param.source)
        for other in definition.layer
        if other.data_param.source and other.transform_param.mean_file == path
    ]
    is_test, source = min(sources, default=(phase == "TEST", layer.data_param.source))
    if is_test:
        command = f"caffecompat compute-image-mean DB {shlex.quote(path)}"
        hint = "DB: the database that the net is trained on"
        return MissingInput(path, "mean file", command, (hint,))
    command = f"caffecompat compute-image-mean {shlex.quote(source)} {shlex.quote(path)}"
    return MissingInput(path, "mean file", command)


def mean_of_list(layer: Message) -> MissingInput | None:
    """The mean file of the images of a list, if it is not there.

    It takes two commands: one makes a database of the images, the other its mean.
    """
    path = _missing_mean(layer)
    if path is None:
        return None
    p = layer.image_data_param
    flags = [f"--resize-height {p.new_height} --resize-width {p.new_width}"] if p.new_height else []
    if not p.is_color:
        flags.append("--gray")
    database = f"{os.path.splitext(p.source)[0]}_lmdb"
    words = ["caffecompat convert-imageset", *flags, shlex.quote(p.root_folder)]
    made = " ".join([*words, shlex.quote(p.source), shlex.quote(database)])
    mean = f"caffecompat compute-image-mean {shlex.quote(database)} {shlex.quote(path)}"
    return MissingInput(path, "mean file", f"{made} && {mean}")


def missing_list(layer: Message) -> MissingInput | None:
    """The list of images of ``image_data_param``, if it is not there."""
    p = layer.image_data_param
    if os.path.exists(p.source):
        return None
    source = shlex.quote(p.source)
    if p.root_folder:
        root = shlex.quote(p.root_folder)
        command = f"caffecompat dataset list {root} {source}"
        if not p.root_folder.endswith("/"):
            command += f" --root {root}"
        return MissingInput(p.source, "list of images", command, ("each sub-folder is a class",))
    command = f"caffecompat dataset list {_IMAGES} {source} --root ''"
    hint = f"{_IMAGES}: a folder whose sub-folders are the classes"
    return MissingInput(p.source, "list of images", command, (hint,))


def missing_hdf5_list(layer: Message) -> MissingInput | None:
    """The list of files of ``hdf5_data_param``, if it is not there."""
    source = layer.hdf5_data_param.source
    if os.path.exists(source):
        return None
    folder = os.path.dirname(source)
    command = f"ls FOLDER/*.h5 > {shlex.quote(source)}"
    if folder and not os.path.isdir(folder):
        command = f"mkdir -p {shlex.quote(folder)} && {command}"
    hint = "FOLDER: where the HDF5 files are, with a data set for each top"
    return MissingInput(source, "list of HDF5 files", command, (hint,))
