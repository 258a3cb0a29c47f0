"""ONNX Runtime, OpenVINO, and int8 in both."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError, MissingExtra, NetError
from caffecompat.export.engines.onnxruntime import open_session
from caffecompat.inference.calibration import Agreement
from caffecompat.inference.comparison import ComparisonOptions, compare
from caffecompat.inference.engines import onnxruntime as ort_engine
from caffecompat.inference.engines import openvino as openvino_engine
from caffecompat.inference.onnx_model.parts import PartsRun
from tests.inference.engine_nets import (
    LAYERS,
    SHAPE,
    assert_near,
    built,
    conv,
    outputs,
)
from tests.inference.small_net import SMALL, without
from tests.net.nets import CLASSIFIER, net

BOUND = 1e-5
# Of the largest output, for two layers with random weights.
INT8_BOUND = 0.1
ENGINES = ["onnxruntime", "onnxruntime-parts", "openvino", "openvino-parts"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    pytest.importorskip("onnx")
    pytest.importorskip(request.param.removesuffix("-parts"))
    return str(request.param)


@pytest.mark.parametrize("name", ["residual", "lrn", "inner products", "modules"])
def test_the_outputs_are_the_same(name: str, engine: str) -> None:
    subject = built(LAYERS[name])
    wanted = outputs(subject)
    made = subject.optimize(engine)
    assert made is not None
    assert made.engine == engine
    assert_near(outputs(subject), wanted, BOUND)


def test_other_input_sizes(engine: str) -> None:
    subject = built(LAYERS["residual"])
    shapes = [(3, 4, 11, 8), SHAPE, (1, 4, 6, 13), (2, 4, 5, 5), (1, 4, 5, 5), (3, 4, 5, 5), SHAPE]
    wanted = [outputs(subject, shape) for shape in shapes]
    subject.optimize(engine)
    for shape, values in zip(shapes, wanted, strict=True):
        assert_near(outputs(subject, shape), values, BOUND)


def test_wrong_inputs_name_the_layer(engine: str) -> None:
    subject = built(SMALL)
    subject.optimize(engine)
    with pytest.raises(LayerError, match="layer 'c'"):
        subject.forward(data=torch.ones(1, 5, 9, 7))


def test_a_net_that_onnx_cannot_hold_runs_in_torch(engine: str) -> None:
    text = CLASSIFIER.replace("include { phase: TRAIN }", "").replace("TEST", "TRAIN")
    subject = net(text)
    given = {
        "data": np.random.default_rng(0).normal(size=(3, 2, 7, 5)).astype(np.float32),
        "label": np.array([1, 0, 5], np.float32),
    }
    wanted = subject.forward(**given)
    made = subject.optimize(engine)
    assert made is not None
    assert made.engine == "torch"
    assert made.lines[0] == (
        f"engine {engine} cannot run the net: ONNX has no operators for layer 'loss' "
        "(SoftmaxWithLoss); it runs in torch"
    )
    np.testing.assert_allclose(subject.forward(**given)["loss"], wanted["loss"], rtol=1e-5)
    if engine.endswith("-parts"):
        with pytest.raises(NetError, match="has no int8"):
            subject.optimize(engine, precision="int8", calibration=[given])


def test_a_net_without_outputs_runs_in_torch(engine: str) -> None:
    subject = built([conv("c", "data"), 'name: "s" type: "Silence" bottom: "c"'])
    made = subject.optimize(engine)
    assert made is not None
    assert made.engine == "torch"
    assert "it has no outputs" in made.lines[0]
    assert outputs(subject) == {}


def test_blobs_that_are_no_outputs_run_in_torch(engine: str) -> None:
    made = built(LAYERS["residual"]).optimize(engine, blobs=["a"])
    assert made is not None
    assert made.engine == "torch"
    assert "the blob 'a', which is read after each pass, is no output" in made.lines[0]


def batches(count: int = 3) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(5)
    return [{"data": generator.normal(size=SHAPE).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_int8(engine: str) -> None:
    pytest.importorskip(engine)
    pytest.importorskip("onnxruntime")
    subject = built(SMALL)
    wanted = outputs(subject)
    made = subject.optimize(engine, precision="int8", calibration=batches())
    assert made is not None
    assert (made.engine, made.precision) == (engine, "int8")
    assert any(line.startswith("int8: calibrated with 3 batches") for line in made.lines)
    assert "top-1 agrees with fp32 in" in made.lines[-1]
    found = outputs(subject)
    assert_near(found, wanted, INT8_BOUND)
    with pytest.raises(AssertionError):
        assert_near(found, wanted, BOUND)


@pytest.mark.parametrize(
    ("calibration", "sentence"),
    [
        (None, "int8 needs images to take the ranges of values from; give calibration=["),
        (3, "has no data layer to read images for int8 from"),
        (0, "the number of calibration batches is 0"),
        ([], "calibration has no batches; give calibration=["),
        ({"data": np.zeros((2, 6, 9, 7))}, "no list of batches by input name; give calibration=["),
        ([{"data": "x"}], "calibration: 'data' is no array of numbers"),
        ([{"label": np.zeros(3)}], "a batch has 'label' 3, but the net's inputs are 'data'"),
    ],
)
def test_bad_calibrations(calibration: Any, sentence: str) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(NetError) as refused:
        built(SMALL).optimize("onnxruntime", precision="int8", calibration=calibration)
    assert sentence in str(refused.value)


def test_calibration_images_need_not_have_the_name_of_the_input() -> None:
    pytest.importorskip("onnxruntime")
    renamed = [{"image": batch["data"], "label": np.zeros(2)} for batch in batches()]
    subject = built(SMALL)
    subject.optimize("onnxruntime", precision="int8", calibration=renamed)
    found = outputs(subject)
    subject.optimize("onnxruntime", precision="int8", calibration=batches())
    assert_near(outputs(subject), found, 0)


def test_openvino_in_16_bits() -> None:
    openvino: Any = pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    able = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    subject = built(SMALL)
    wanted = outputs(subject)
    made = subject.optimize("openvino", precision="bf16")
    assert made is not None
    assert made.precision == ("bf16" if able else "fp32")
    assert able or made.lines[0].startswith("bf16: this processor has no such products")
    assert_near(outputs(subject), wanted, 2e-2 if able else BOUND)


def test_16_bits_in_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.setattr(ort_engine, "multiplies_halves", lambda kind, device: False)
    subject = built(SMALL)
    wanted = outputs(subject)
    made = subject.optimize("onnxruntime", precision="bf16")
    assert made is not None
    assert (made.engine, made.precision) == ("onnxruntime", "fp32")
    assert made.lines[0].startswith("bf16: this processor has no such products")
    assert_near(outputs(subject), wanted, BOUND)
    monkeypatch.setattr(ort_engine, "multiplies_halves", lambda kind, device: True)
    with pytest.raises(NetError, match="engine onnxruntime has no bf16 on the CPU; it has fp32"):
        built(SMALL).optimize("onnxruntime", precision="bf16")


def test_one_net_in_several_threads(engine: str) -> None:
    subject = built(SMALL)
    subject.optimize(engine, large_pages=False)
    given = [torch.full(SHAPE, float(value)) for value in range(3)]
    wanted = [subject.forward(data=value)["f"].clone() for value in given]

    def work(number: int) -> None:
        for _ in range(20):
            found = subject.forward(data=given[number])["f"]
            assert_near({"f": found}, {"f": wanted[number]}, BOUND)

    with ThreadPoolExecutor(len(given)) as threads:
        list(threads.map(work, range(len(given))))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    run = PartsRun([lambda arrays: [2 * arrays[0]]] * 2, single_rows=True)
    given = np.arange(12, dtype=np.float32).reshape(4, 3)
    run([given])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if np.array_equal(run([given])[0], 2 * given) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_of_onnx_runtime_wait_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    waits: list[int | None] = []

    def noted(*arguments: Any) -> Any:
        waits.append(arguments[3])
        return open_session(*arguments)

    monkeypatch.setattr(ort_engine, "open_session", noted)
    subject = built(SMALL)
    subject.optimize("onnxruntime", large_pages=False)
    subject.optimize("onnxruntime", large_pages=False, short_waits=False)
    compare(subject, ["onnxruntime"], ComparisonOptions(turns=1, seconds=0))
    assert waits == [1000, None, None]


@pytest.mark.parametrize(
    ("module", "engine", "extra"),
    [("onnxruntime", "onnxruntime", "onnx"), ("openvino", "openvino", "openvino")],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, engine: str, extra: str
) -> None:
    without(monkeypatch, module)
    subject = built(SMALL)
    with pytest.raises(MissingExtra) as missing:
        subject.optimize(engine)
    assert f"[{extra}]'" in str(missing.value)
    outputs(subject)


def test_agreement_counts_classes_and_differences() -> None:
    agreement = Agreement()
    wanted = np.array([[0.0, 4.0], [1.0, 0.0]], np.float32)
    agreement.add(np.array([[0.0, 3.0], [1.0, 2.0]], np.float32), wanted)
    assert agreement.top1 == 0.5
    assert agreement.difference == 0.5
    assert str(agreement).startswith("top-1 agrees with fp32 in 50.0% of 2 cases")
    flat = Agreement()
    flat.add(np.ones(3, np.float32), np.zeros(3, np.float32))
    assert "top-1" not in str(flat)
    assert flat.difference == 1


def test_openvino_fills_its_table_of_types_before_threads_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two first passes at once could wait for each other forever, in half of new processes."""
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    order: list[str] = []

    def to_dtype() -> object:
        order.append(threading.current_thread().name)
        return openvino.Type.f32.to_dtype()

    def core() -> object:
        order.append("core")
        return openvino.Core()

    watched = SimpleNamespace(Type=SimpleNamespace(f32=SimpleNamespace(to_dtype=to_dtype)))
    watched.Core = core
    monkeypatch.setattr(openvino_engine, "import_openvino", lambda: watched)
    built(SMALL).optimize("openvino-parts", large_pages=False)
    assert order[-2:] == ["MainThread", "core"]
