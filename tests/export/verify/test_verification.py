"""Comparisons of two engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import CaffeError, ExportError, FormatError
from caffecompat.export.engines import onnxruntime, opencv
from caffecompat.export.engines.base import EngineOptions, open_engine
from caffecompat.export.engines.caffe_net import CaffeNet
from caffecompat.export.model import CaffeModel
from caffecompat.export.onnx_file import grouped, read_onnx, value_bytes
from caffecompat.export.opencv import process as opencv_process
from caffecompat.export.opencv.process import OpenCvRequest
from caffecompat.export.targets.base import TargetOptions
from caffecompat.export.targets.onnx import Onnx
from caffecompat.export.verify.inputs import draw_inputs
from caffecompat.export.verify.verification import (
    compare,
    compare_conversion,
    difference,
    run_both,
    verify_conversion,
)
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.weights import save_weights
from tests.export.models import layer_net, model_of, random_inputs
from tests.export.verify.verified_model import TEXT, with_onnx


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a small model: net.prototxt, net.caffemodel, and values in net.npz."""
    model = model_of(TEXT)
    (tmp_path / "net.prototxt").write_text(TEXT)
    save_weights(model.weights, tmp_path / "net.caffemodel")
    net = model.net()
    inputs = random_inputs(net)
    net.forward(**inputs)
    recorded = {f"out/{name}": net.blobs[name].data.numpy() for name in net.blobs}
    arrays: dict[str, Any] = {"in/data": inputs["data"], **recorded}
    np.savez(tmp_path / "net.npz", **arrays)
    return tmp_path


@pytest.mark.parametrize("engine", ["onnxruntime", "opencv"])
def test_engines_agree_on_every_value(engine: str, files: Path) -> None:
    pytest.importorskip({"onnxruntime": "onnxruntime", "opencv": "cv2"}[engine])
    options = EngineOptions(model=str(files / "net.prototxt"))
    ours = open_engine(str(files / "net.caffemodel"), options)
    theirs = open_engine(f"{engine}:{with_onnx(files)}", options)
    inputs = draw_inputs(ours, theirs, seed=1)
    result = compare(*run_both(ours, theirs, inputs, every_value=True))
    names = [difference.name for difference in result.differences]
    assert names == ["conv before norm", "conv before relu", "conv", "pool", "fc"]
    assert result.agrees
    assert result.worst.absolute > 0, "these are different programs"


def test_opencv_returns_the_values_of_large_nets_in_several_passes(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    theirs = open_engine(f"opencv:{with_onnx(files)}", EngineOptions())
    inputs = random_inputs(model_of(TEXT).net())
    together = theirs.values(inputs)
    groups = []

    def run(request: OpenCvRequest, *rest: Any) -> Any:
        groups.append(list(request.outputs))
        return opencv_process.run_in_opencv(request, *rest)

    monkeypatch.setattr(opencv, "run_in_opencv", run)
    # The three values of the convolution have 2 x 4 x 7 x 5 x 4 = 1120 bytes each.
    monkeypatch.setattr(opencv, "MOST_BYTES", 2 * 1120)
    apart = theirs.values(inputs)
    assert groups == [
        ["conv before norm", "conv before relu"],
        ["conv", "pool", "fc/Flatten", "fc"],
    ]
    assert list(apart) == list(together)
    for name, value in together.items():
        np.testing.assert_allclose(apart[name], value, rtol=1e-5, atol=1e-6)


def test_large_values_of_opencv_outlive_their_file(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    theirs = open_engine(f"opencv:{with_onnx(files)}", EngineOptions())
    inputs = random_inputs(model_of(TEXT).net())
    loaded = theirs.values(inputs)
    monkeypatch.setattr(opencv_process, "MAPPED_BYTES", 0)
    mapped = theirs.values(inputs)
    for name, value in loaded.items():
        np.testing.assert_array_equal(mapped[name], value)


def test_sizes_of_values_that_the_inputs_tell(files: Path) -> None:
    model = read_onnx(with_onnx(files))
    sizes = value_bytes(model, {"data": (3, 3, 9, 7)})
    assert sizes["conv before norm"] == 4 * 3 * 4 * 7 * 5
    assert sizes["pool"] == 4 * 3 * 4 * 3 * 2
    assert list(grouped(["a", "b", "c", "d"], {"a": 9, "b": 2, "c": 3}, 5)) == [
        ["a"],
        ["b", "c", "d"],
    ]


def test_recorded_values_are_compared_with_recorded_inputs(files: Path) -> None:
    options = EngineOptions(model=str(files / "net.prototxt"))
    ours = open_engine(str(files / "net.caffemodel"), options)
    recorded = open_engine(str(files / "net.npz"), options)
    inputs = draw_inputs(ours, recorded, seed=1)
    result = compare(*run_both(ours, recorded, inputs, every_value=True))
    assert [d.name for d in result.differences] == ["data", "conv", "pool", "fc"]
    assert result.worst.absolute == 0


def test_a_conversion_is_verified(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = model_of(TEXT)
    path = with_onnx(tmp_path, model)
    assert [d.name for d in compare_conversion(model, path).differences] == ["fc"]
    lines = verify_conversion(model, path)
    assert lines[0].startswith("fc: 2x5, largest difference ")
    assert lines[1] == f"verified: {path} computes what the net does, within 0.0001"
    with pytest.raises(ExportError, match="computes something else"):
        verify_conversion(model_of(TEXT, seed=6), path)


def test_the_written_file_is_opened_before_the_net_takes_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    model = model_of(TEXT)
    Onnx(TargetOptions()).write(model, tmp_path / "net.onnx")
    opened = []

    def read(path: Path, max_bytes: int | None) -> Any:
        opened.append(path.name)
        return read_onnx(path, max_bytes)

    def of(model: CaffeModel) -> CaffeNet:
        assert opened == ["net.onnx"]
        return made(model)

    made = CaffeNet.of
    monkeypatch.setattr(onnxruntime, "read_onnx", read)
    monkeypatch.setattr(CaffeNet, "of", of)
    assert compare_conversion(model, tmp_path / "net.onnx").agrees


def test_images_are_preprocessed_for_the_engine_that_does_not(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    steps = Preprocessing(mean=(104.0, 117.0, 123.0), scale=0.5)
    model = replace(model_of(TEXT), preprocessing=steps)
    Onnx(TargetOptions(fold_preprocessing=True)).write(model, tmp_path / "net.onnx")
    assert compare_conversion(model, tmp_path / "net.onnx").agrees


def test_differences() -> None:
    x = np.array([1, -4, np.nan], np.float32)
    assert difference("x", x, x).relative == 0
    assert difference("x", x, x + np.float32(1)).relative == 0.25
    assert difference("x", x, np.zeros(3, np.float32)).note == "NaN in one only"
    assert difference("x", x, x[:2]).note == "3 and 2"
    infinite = np.array([1, np.inf], np.float32)
    assert difference("x", infinite, infinite).absolute == 0
    assert difference("x", np.zeros(2), np.ones(2)).relative == np.inf
    with pytest.raises(ExportError, match="same name"):
        compare({"a": x}, {"b": x})


def test_inputs_must_agree(files: Path) -> None:
    first = CaffeNet.of(model_of(TEXT))
    larger = CaffeNet.of(model_of(TEXT.replace("dim: 7", "dim: 8")))
    renamed = CaffeNet.of(model_of(TEXT.replace('"data"', '"image"')))
    with pytest.raises(ExportError, match="2x3x9x7 in one and 2x3x9x8"):
        draw_inputs(first, larger, 0)
    with pytest.raises(ExportError, match="'data' in one and 'image'"):
        draw_inputs(first, renamed, 0)


def test_images_of_any_size_have_one_that_nets_take(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    text = TEXT[: TEXT.index('layer { name: "fc"')]
    path = with_onnx(tmp_path, model_of(text))
    first, second = (open_engine(f"onnxruntime:{path}", EngineOptions()) for _ in range(2))
    assert first.inputs["data"][2:] == (0, 0)
    inputs = draw_inputs(first, second, 0)
    assert inputs["data"].shape == (1, 3, 224, 224)
    assert compare(*run_both(first, second, inputs)).worst.absolute == 0


def test_indices_are_drawn_for_embed(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    layer = 'type: "Embed" embed_param { num_output: 3 input_dim: 7 }'
    model = model_of(layer_net(layer, (5, 4)))
    path = with_onnx(tmp_path, model)
    assert compare_conversion(model, path).worst.absolute == 0
    engine = CaffeNet.of(model)
    assert set(draw_inputs(engine, engine, 0)["a"].ravel()) <= set(range(7))


def test_a_run_does_not_go_on_from_the_run_before() -> None:
    layer = 'type: "LSTM" recurrent_param { num_output: 3 }'
    engine = CaffeNet.of(model_of(layer_net(layer, (4, 2, 5), (4, 2))))
    inputs = {**draw_inputs(engine, engine, 0), "b": np.ones((4, 2), np.float32)}
    assert np.array_equal(engine.run(inputs)["y"], engine.run(inputs)["y"])


def test_inputs_depend_on_the_seed() -> None:
    engine = CaffeNet.of(model_of(TEXT))
    one, same, other = (draw_inputs(engine, engine, seed)["data"] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("net.onnx", b"", "is no ONNX file"),
        ("net.onnx", b"\xff" * 50, "is no ONNX file"),
        ("net.npz", b"PK\x03\x04 nothing", "damaged"),
        ("net.txt", b"", "no engine runs such files"),
    ],
)
def test_damaged_files_get_a_sentence(
    name: str, content: bytes, sentence: str, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CaffeError, match=sentence):
        open_engine(str(path), EngineOptions())


def test_onnx_files_that_reach_for_other_files_or_code_are_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    loaded = onnx.load(with_onnx(tmp_path))
    loaded.graph.initializer[0].ClearField("raw_data")
    loaded.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    loaded.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    (tmp_path / "net.onnx").write_bytes(loaded.SerializeToString())
    with pytest.raises(ExportError, match="weights are in other files"):
        open_engine(str(tmp_path / "net.onnx"), EngineOptions())
    loaded = onnx.load(with_onnx(tmp_path))
    loaded.opset_import.add(domain="evil", version=1)
    (tmp_path / "net.onnx").write_bytes(loaded.SerializeToString())
    with pytest.raises(ExportError, match="'evil'"):
        open_engine(str(tmp_path / "net.onnx"), EngineOptions())


def test_a_file_that_crashes_opencv_gets_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    engine = open_engine(f"opencv:{with_onnx(tmp_path)}", EngineOptions())
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(opencv_process, "_START_CHILD", crash)
    with pytest.raises(ExportError, match=r"OpenCV crashes on it \(SIGSEGV\)"):
        engine.run(random_inputs(model_of(TEXT).net()))


def test_a_file_on_which_opencv_does_not_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    engine = open_engine(f"opencv:{with_onnx(tmp_path)}", EngineOptions())
    monkeypatch.setattr(opencv_process, "_START_CHILD", "import time; time.sleep(1000)")
    monkeypatch.setattr(opencv_process, "MAX_SECONDS", 0.2)
    with pytest.raises(ExportError, match=r"OpenCV has not finished after 0\.2 seconds"):
        engine.run(random_inputs(model_of(TEXT).net()))


def test_an_operator_that_opencv_refuses_gets_a_sentence(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("cv2")
    loaded = onnx.load(with_onnx(tmp_path))
    loaded.graph.node[0].op_type = "NoSuchOperator"
    (tmp_path / "net.onnx").write_bytes(loaded.SerializeToString())
    engine = open_engine(f"opencv:{tmp_path / 'net.onnx'}", EngineOptions())
    with pytest.raises(ExportError, match="OpenCV cannot run it"):
        engine.run(random_inputs(model_of(TEXT).net()))


def test_a_record_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"out/a": np.array([print], dtype=object)}
    np.savez(tmp_path / "net.npz", **arrays)
    with pytest.raises(FormatError):
        open_engine(str(tmp_path / "net.npz"), EngineOptions())


def test_a_weight_file_needs_its_definition(tmp_path: Path) -> None:
    save_weights(model_of(TEXT).weights, tmp_path / "net.pt", naming=torch_naming())
    with pytest.raises(ExportError, match="--model"):
        open_engine(str(tmp_path / "net.pt"), EngineOptions())


def test_old_opencv_reads_caffe_files(files: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    options = EngineOptions(model=str(files / "net.prototxt"))
    where = f"opencv-caffe:{files / 'net.caffemodel'}"
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        with pytest.raises(ExportError, match="no longer reads Caffe"):
            open_engine(where, options)
        return
    ours, theirs = (open_engine(w, options) for w in (str(files / "net.caffemodel"), where))
    result = compare(*run_both(ours, theirs, draw_inputs(ours, theirs, 1), every_value=True))
    assert result.agrees
    assert Net(options.model).outputs == ["fc"]


@pytest.mark.parametrize("flags", ["flags", "reshaped"])
def test_flags_of_sequences_are_0_or_1(flags: str) -> None:
    """Others would multiply the state of each step, up to infinity."""
    text = """layer { name: "in" type: "Input" top: "x" top: "flags"
      input_param { shape { dim: 9 dim: 2 dim: 4 } shape { dim: 9 dim: 2 } } }
    layer { name: "reshaped" type: "Reshape" bottom: "flags" top: "reshaped"
      reshape_param { shape { dim: 9 dim: 2 } } }
    layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "FLAGS" top: "y"
      recurrent_param { num_output: 3 } }"""
    engine = CaffeNet.of(model_of(text.replace("FLAGS", flags)))
    drawn = draw_inputs(engine, engine, 0)
    assert set(drawn["flags"].ravel()) == {0.0, 1.0}
    assert len(set(drawn["x"].ravel())) > 2


def test_the_place_of_the_largest_value_does_not_decide() -> None:
    """Two classes of equal scores may both be the best one; the scores decide."""
    text = """layer { name: "in" type: "Input" top: "x"
      input_param { shape { dim: 2 dim: 3 dim: 4 } } }
    layer { name: "twice" type: "Power" bottom: "x" top: "twice" power_param { scale: 2 } }
    layer { name: "best" type: "ArgMax" bottom: "twice" top: "best" argmax_param { axis: 1 } }"""
    engine = CaffeNet.of(model_of(text))
    assert engine.loose == {"best"}
    own = engine.values(draw_inputs(engine, engine, 0))
    assert compare(own, {**own, "best": 2 - own["best"]}, loose=engine.loose).agrees
    assert not compare(own, {**own, "twice": own["twice"] + 1}, loose=engine.loose).agrees
