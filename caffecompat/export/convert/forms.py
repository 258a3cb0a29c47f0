"""In what form, and under what name, a model is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caffecompat.errors import FileProblem, UnknownName
from caffecompat.export.targets.base import targets
from caffecompat.input_files import check_input
from caffecompat.output_files import check_target
from caffecompat.weights.file_type import looks_like_net
from caffecompat.weights.format import Format, formats
from caffecompat.weights.mapped import read_head

CAFFE_ENDINGS = (".caffemodel.h5", ".caffemodel")
# Programs that make files of other forms, and of what.
READERS = {
    ".tflite": (".onnx", "onnx2tf"),
    ".pb": (".onnx", "onnx2tf"),
    ".keras": (".onnx", "onnx2tf"),
    ".engine": (".onnx", "TensorRT's trtexec"),
    ".plan": (".onnx", "TensorRT's trtexec"),
    ".trt": (".onnx", "TensorRT's trtexec"),
    ".xml": (".onnx", "OpenVINO's ovc"),
    ".bin": (".onnx", "OpenVINO's ovc"),
    ".param": (".onnx", "ncnn's pnnx"),
    ".mnn": (".onnx", "MNNConvert"),
    ".rknn": (".onnx", "rknn-toolkit2"),
    ".mlmodel": (".pt2", "coremltools"),
    ".mlpackage": (".pt2", "coremltools"),
    ".pte": (".pt2", "ExecuTorch"),
    ".ptl": (".pt2", "ExecuTorch, torch's successor of such files,"),
}
# What their users call these forms.
PROGRAMS = {
    "tensorflow": ".pb",
    "tensorrt": ".engine",
    "openvino": ".xml",
    "ncnn": ".param",
    "coreml": ".mlpackage",
    "executorch": ".pte",
}
# What a format without a suffix of its own is written with.
SUFFIX_OF = {"caffemodel-v1": ".caffemodel", "hdf5": ".caffemodel.h5"}


@dataclass(frozen=True)
class Form:
    """One form: a weight format, or a target of ``targets/``.

    Attributes:
        name: its name, as ``--to`` takes it.
        is_weights: whether it is a weight format.
    """

    name: str
    is_weights: bool

    @property
    def format(self) -> type[Format]:
        """The class of the weight format."""
        return formats.find(self.name)

    @property
    def holds_preprocessing(self) -> bool:
        """Whether a file of this form has the preprocessing in it."""
        if self.is_weights:
            return self.format.holds_metadata
        return targets.find(self.name).holds_preprocessing

    @property
    def folds_preprocessing(self) -> bool:
        """Whether a file of this form can do mean, scale and channel order itself."""
        return not self.is_weights and targets.find(self.name).folds_preprocessing


def choose_form(source: Path, target: Path | None, to: str | None) -> tuple[Form, Path]:
    """The form that the user wants, and the file to write.

    ``to`` decides, then the target's suffix; without either a Caffe file becomes safetensors,
    and any other file a caffemodel. In a folder the file has the source's name.

    Raises:
        UnknownName: no form of that name or suffix.
    """
    into = target if target is not None and target.is_dir() else None
    if to is not None:
        form = named_form(to)
    elif target is not None and into is None:
        form = _by_suffix(target)
    else:
        form = Form("safetensors" if _is_caffe(source) else "caffemodel", True)
    if into is not None:
        return form, into / _default_path(source, form).name
    return form, target or _default_path(source, form)


def check_free(source: Path, target: Path, force: bool) -> None:
    """Refuses to write over a file.

    Raises:
        FileProblem: source and target are one file; or the target exists, and not ``force``; or it
            is no regular file.
    """
    check_target(target)
    if not target.exists():
        return
    if source.exists() and target.samefile(source):
        raise FileProblem(f"{target}: source and target are one file; give another target")
    if not force:
        raise FileProblem(f"{target}: exists already; --force replaces it, or name another target")


def named_form(name: str) -> Form:
    """The form that ``--to`` names.

    Raises:
        UnknownName: there is none.
    """
    if name in formats:
        return Form(name, True)
    if name in targets:
        return Form(name, False)
    found = _all_suffixes().get(f".{name}")
    if found is not None:
        return found
    way = _way(PROGRAMS.get(name.lower(), f".{name}"), "")
    raise UnknownName("form of a model", name, [*formats, *targets], way and f"--to; {way}")


def _by_suffix(target: Path) -> Form:
    by_suffix = {s: Form(name, True) for name in formats for s in formats.find(name).suffixes}
    found = _longest(target, by_suffix)
    if found is None:
        # The targets are imported only now: some load large libraries.
        by_suffix = _all_suffixes()
        found = _longest(target, by_suffix)
    if found is None and not target.suffix:
        raise FileProblem(
            f"{target}: its name has no suffix that says the form, and there is no folder of that "
            f"name; end it in one of {', '.join(sorted(by_suffix))}, or give --to"
        )
    if found is None:
        raise UnknownName(
            "file name suffix",
            target.suffix,
            by_suffix,
            f"{target}; {_way(target.suffix, '--to names one')}",
        )
    return found


def _way(suffix: str, otherwise: str) -> str:
    """What to do about a suffix that is not known."""
    if suffix.lower() not in READERS:
        return otherwise
    ours, program = READERS[suffix.lower()]
    return f"write {ours}, of which {program} makes such a file"


def _all_suffixes() -> dict[str, Form]:
    found = {s: Form(name, True) for name in formats for s in formats.find(name).suffixes}
    return found | {s: Form(name, False) for name in targets for s in targets.find(name).suffixes}


def _longest(target: Path, by_suffix: dict[str, Form]) -> Form | None:
    for suffix in sorted(by_suffix, key=len, reverse=True):
        if target.name.lower().endswith(suffix):
            return by_suffix[suffix]
    return None


def _is_caffe(source: Path) -> bool:
    return source.name.endswith(CAFFE_ENDINGS) or looks_like_net(read_head(source))


def _default_path(source: Path, form: Form) -> Path:
    check_input(source)
    suffix = _suffix(form)
    for ending in CAFFE_ENDINGS:
        if source.name.endswith(ending):
            return source.with_name(source.name.removesuffix(ending) + suffix)
    return source.with_suffix(suffix)


def _suffix(form: Form) -> str:
    if form.name in SUFFIX_OF:
        return SUFFIX_OF[form.name]
    suffixes = form.format.suffixes if form.is_weights else targets.find(form.name).suffixes
    return suffixes[0] if suffixes else f".{form.name}"
