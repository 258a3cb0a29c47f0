"""What is done with files that are not Caffe's; see asks.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from caffecompat.data.image_sizes import read_image_sizes
from caffecompat.data.label_map import read_label_map
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.data.sources.frame_lists import read_videos
from caffecompat.data.sources.image_lists.image_list import read_class_names, read_names
from caffecompat.data.sources.label_grids.label_maps import read_map_list
from caffecompat.data.sources.objects.box_list import read_box_list
from caffecompat.data.sources.objects.object_images import read_object_list
from caffecompat.data.sources.objects.region_lists import read_region_list
from caffecompat.data.sources.selected_records import read_selection
from caffecompat.data.tools.annotation_files import read_annotations
from caffecompat.data.tools.mnist import read_idx
from caffecompat.doctor.examination import examine
from caffecompat.errors import CaffeError, DataError
from caffecompat.evaluate.classification import posteriors
from caffecompat.evaluate.features.feature_file import load_features
from caffecompat.export.matconvnet.mat_file import read_mat
from caffecompat.export.onnx_file import (
    input_shapes,
    preprocessing_inside,
    read_onnx,
    with_all_values,
)
from caffecompat.export.source import read_source

LABELS = "labels.prototxt"
_IMAGES = 0x803


def each(*reads: Callable[[Path], object]) -> Callable[[Path], None]:
    """Reads a file in several ways; the refusal of the last one is that of all."""

    def ask(path: Path) -> None:
        for read in reads[:-1]:
            try:
                read(path)
            except CaffeError:
                continue
        reads[-1](path)

    return ask


def onnx(path: Path) -> None:
    model = read_onnx(path)
    input_shapes(model)
    preprocessing_inside(model, path)
    with_all_values(model)


def mat(path: Path) -> None:
    read_mat(path)


def model_file(path: Path) -> None:
    """A model of another program as a Caffe model."""
    read_source(path, None)


def label_map(path: Path) -> None:
    found = read_label_map(str(path))
    read_label_map(str(path), unique=False)
    found.label("cat")


def annotated(path: Path) -> None:
    """As each of the kinds that there are."""
    known = read_label_map(str(path.with_name(LABELS)))
    kinds = [partial(_annotations, kind, known) for kind in ("xml", "json", "txt")]
    each(*kinds)(path)


def _annotations(kind: str, known: object, path: Path) -> None:
    read_annotations(str(path), kind, (12, 16), known)  # type: ignore[arg-type]


def script(path: Path) -> None:
    """The file in a folder of its own, which is examined; what is found are sentences."""
    findings = [one for report in examine(path.parent).files for one in report.findings]
    if any(not finding.sentence.strip() for finding in findings):
        raise AssertionError("an empty sentence")
    if findings:
        raise DataError("; ".join(finding.sentence for finding in findings[:3]))


def lists(path: Path) -> None:
    name = str(path)
    each(
        lambda _: read_names(name),
        lambda _: read_class_names(name),
        lambda _: read_image_sizes(name),
        lambda _: read_videos(name),
        lambda _: read_map_list(name, "pixel"),
        lambda _: read_map_list(name, "image"),
        lambda _: read_region_list(name, True),
        lambda _: read_region_list(name, False),
        lambda _: read_selection(name),
        lambda _: read_object_list(name, "", 5),
        lambda _: read_box_list(name)[0],
    )(path)


def idx(path: Path) -> None:
    read_idx(str(path), _IMAGES).sum()


def preprocessing(path: Path) -> None:
    found = Preprocessing.from_json(path.read_bytes().decode("utf-8", "replace"), str(path))
    found.sentence()
    found.to_json()


def saved_posteriors(path: Path) -> None:
    posteriors.load(path).values.sum()


def features(path: Path) -> None:
    load_features(str(path)).features.sum()
