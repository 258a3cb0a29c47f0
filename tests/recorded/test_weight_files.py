"""Weight files that BVLC Caffe wrote or was given: they load, or fail, as they did there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.proto import schema
from caffecompat.weights import load_weights, save_weights
from tests.places import COPIES
from tests.recorded.cases import Case
from tests.recorded.exceptions import assert_agrees
from tests.recorded.weight_files import copy_into, differences, parameters

DATA = COPIES / "files"
# The nets whose files Caffe wrote.
NETS = ("batchnorm", "convnet", "misc_params", "shared", "transposed_ip")


@pytest.mark.recorded_cases("weight files")
def test_file_is_read_as_caffe_reads_it(case: Case) -> None:
    assert_agrees(f"files/{case.facts['file']}", differences(case.path, case.facts))


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_two_files_one_after_the_other(order: tuple[str, str]) -> None:
    folder = DATA / "two_files"
    reference = parameters(folder / "io.npz")
    recorded = "one_then_two.loaded.npz" if order == ("one", "two") else "io.npz"
    expected = parameters(folder / recorded)
    copied: dict[str, list[np.ndarray]] = {}
    for name in order:
        copied |= copy_into(reference, load_weights(folder / f"{name}.caffemodel"))
    assert sorted(copied) == sorted(reference)
    for layer, arrays in copied.items():
        for array, target in zip(arrays, expected[layer], strict=True):
            np.testing.assert_array_equal(array, target)


@pytest.mark.parametrize("generation", ["v2", "v1", "v0"])
def test_types_have_todays_names(generation: str) -> None:
    weights = load_weights(DATA / "convnet" / f"{generation}.caffemodel")
    types = {name: weights[name].type for name in ("conv_a", "conv_b", "fc")}
    assert types == {"conv_a": "Convolution", "conv_b": "Convolution", "fc": "InnerProduct"}
    assert weights.net_name == "plainconv"


@pytest.mark.parametrize("suffix", [".npz", ".caffemodel.h5"])
@pytest.mark.parametrize("generation", ["v1", "v0"])
def test_old_sizes_become_todays_shapes_in_other_formats(
    generation: str, suffix: str, tmp_path: Path
) -> None:
    weights = load_weights(DATA / "convnet" / f"{generation}.caffemodel")
    assert all(all(layer.legacy) for layer in weights.layers if layer.blobs)
    save_weights(weights, tmp_path / f"modern{suffix}")
    net = parameters(DATA / "convnet" / "io.npz")
    copied = copy_into(net, load_weights(tmp_path / f"modern{suffix}"))
    assert {n: [a.tobytes() for a in arrays] for n, arrays in copied.items()} == {
        n: [a.tobytes() for a in arrays] for n, arrays in net.items()
    }


@pytest.mark.parametrize("generation", ["v2", "v1", "v0", "chunks", "double"])
def test_any_generation_survives_being_written_anew(generation: str, tmp_path: Path) -> None:
    save_weights(
        load_weights(DATA / "convnet" / f"{generation}.caffemodel"), tmp_path / "again.caffemodel"
    )
    net = parameters(DATA / "convnet" / "io.npz")
    copied = copy_into(net, load_weights(tmp_path / "again.caffemodel"))
    assert sorted(copied) == sorted(net)
    for layer, arrays in copied.items():
        assert [a.tobytes() for a in arrays] == [a.tobytes() for a in net[layer]]


@pytest.mark.parametrize("name", NETS)
def test_written_bytes_are_those_of_caffe_for_what_we_write(
    name: str, golden: Path, tmp_path: Path
) -> None:
    """Caffe's own files also have the layers' parameters; the rest is equal byte by byte."""
    kept = {"name", "type", "bottom", "top", "blobs", "phase"}
    source = golden / "files" / name / "v2.caffemodel"
    message = schema.message_class("NetParameter").FromString(source.read_bytes())
    for layer in message.layer:
        for field, _ in layer.ListFields():
            if field.name not in kept:
                layer.ClearField(field.name)
    save_weights(load_weights(source), tmp_path / "out.caffemodel")
    assert (tmp_path / "out.caffemodel").read_bytes() == message.SerializeToString()
