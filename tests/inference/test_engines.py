"""ONNX Runtime, OpenVINO, the fastest of the engines, and int8."""

from __future__ import annotations

import builtins
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.errors import LayerError, MissingExtra, NetError
from caffecompat.export.engines.onnxruntime import open_session
from caffecompat.inference import timing
from caffecompat.inference.calibration import Agreement
from caffecompat.inference.comparison import ComparisonOptions, compare
from caffecompat.inference.engines import fastest
from caffecompat.inference.engines import onnxruntime as ort_engine
from caffecompat.inference.engines import openvino as openvino_engine
from caffecompat.inference.engines.fastest import FastestProgram
from caffecompat.inference.onnx_model.parts import PartsRun
from caffecompat.net.execution.inference import InferenceOptions, Optimization, inference_engines
from tests.export.passes.models import net_text
from tests.inference.test_torch_engine import (
    LAYERS,
    SHAPE,
    assert_near,
    built,
    conv,
    inner,
    outputs,
    simple,
)
from tests.net.nets import CLASSIFIER, net

BOUND = 1e-5
# Of the largest output, for two layers with random weights.
INT8_BOUND = 0.1
ENGINES = ["onnxruntime", "onnxruntime-parts", "openvino", "openvino-parts"]
SMALL = [conv("c", "data"), simple("ReLU", "r", "c"), inner("f", "c")]


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
    batches = [given]
    sentence = "has no int8" if engine.endswith("-parts") else "no operators for layer 'loss'"
    with pytest.raises(NetError, match=sentence):
        subject.optimize(engine, precision="int8", calibration=batches)


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
    assert f"caffecompat[{extra}]" in str(missing.value)
    outputs(subject)


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Makes modules impossible to import."""
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.split(".")[0] in names:
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    for name in list(sys.modules):
        if name.split(".")[0] in names:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)


def test_the_fastest_is_the_one_with_the_least_time(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "onnxruntime", "openvino")
    subject = built(SMALL)
    made = subject.optimize()
    assert made is not None
    assert made.engine == "torch"
    text = str(made)
    assert "onnxruntime: not installed" in text
    assert "torch alone runs it" in text


class NamedProgram:
    """Returns its name instead of blobs."""

    def __init__(self, name: str) -> None:
        self.feeds: list[Any] = []
        self.versions: list[Any] = []
        self.name = name

    def __call__(self, feeds: Sequence[torch.Tensor]) -> Any:
        return self.name


def test_the_choice_of_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"torch": 3.0, "slow": 4.0, "quick": 0.002}

    def engine(name: str) -> Callable[[Net, InferenceOptions], Optimization]:
        program = NamedProgram(name)
        return lambda net, options: Optimization(name, "fp32", (f"made {name}",), program)

    monkeypatch.setattr(inference_engines, "_load", lambda: None)
    monkeypatch.setattr(inference_engines, "_entries", {n: engine(n) for n in times})
    monkeypatch.setattr(fastest, "least_seconds", lambda programs, feeds: times)
    made = fastest.optimize(built(SMALL), InferenceOptions(large_pages=False))
    assert made.engine == "quick"
    line = "quick is the fastest here, for inputs 2x4x9x7"
    assert made.lines[-3:] == ("quick: 2 ms", line, "made quick")


@pytest.mark.parametrize(
    ("precisions", "taken"),
    [
        ({"few": "bf16", "many": "bf16"}, "many"),
        ({"few": "bf16", "many": "fp32"}, "few"),
        ({"few": "int8", "many": "int8"}, "few"),
    ],
)
def test_other_sizes_take_engines_that_differ_by_rounding_alone(
    monkeypatch: pytest.MonkeyPatch, precisions: dict[str, str], taken: str
) -> None:
    def engine(name: str) -> Callable[[Net, InferenceOptions], Optimization]:
        return lambda net, options: Optimization(name, precisions[name], (), NamedProgram(name))

    def measured(programs: Any, feeds: Sequence[torch.Tensor]) -> dict[str, float]:
        rows = len(feeds[0])
        times = {"few": 1.0 + rows, "many": 3.0 + rows / 10}
        return {name: times[name] for name in programs}

    monkeypatch.setattr(inference_engines, "_load", lambda: None)
    monkeypatch.setattr(inference_engines, "_entries", {n: engine(n) for n in precisions})
    monkeypatch.setattr(fastest, "least_seconds", measured)
    made = fastest.optimize(built(SMALL), InferenceOptions())
    assert made.engine == "few"
    program: Any = made.program
    assert [program([torch.zeros(20, 4)]) for _ in range(3)][-1] == taken


def test_parts_are_measured_for_batches_and_small_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def engine(name: str) -> Callable[[Net, InferenceOptions], Optimization]:
        def optimize(net: Net, options: InferenceOptions) -> Optimization:
            asked.append(name)
            return Optimization(name, "fp32", (), NamedProgram(name))

        return optimize

    monkeypatch.setattr(inference_engines, "_load", lambda: None)
    entries = {name: engine(name) for name in ("one", "one-parts")}
    monkeypatch.setattr(inference_engines, "_entries", entries)
    one, few = {"data": (1, 4, 9, 7)}, {"data": (3, 4, 9, 7)}
    fastest.optimize(built(SMALL), InferenceOptions(shapes=one))
    assert asked == ["one", "one-parts"]
    monkeypatch.setattr(fastest, "_FEW_WEIGHTS", 10)
    fastest.optimize(built(SMALL), InferenceOptions(shapes=few))
    fastest.optimize(built(SMALL), InferenceOptions(shapes=one))
    assert asked[2:] == ["one", "one-parts", "one"]


def test_each_size_that_comes_often_has_its_own_fastest_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(programs: Any, feeds: Sequence[torch.Tensor]) -> dict[str, float]:
        rows = len(feeds[0])
        times = {"few": 1.0 + rows, "many": 5.0 + rows / 10, "hopeless": 99.0}
        return {name: times[name] for name in programs}

    monkeypatch.setattr(fastest, "least_seconds", measured)
    program: Any = FastestProgram({n: NamedProgram(n) for n in ("few", "many", "hopeless")})
    one, ten, nine = ([torch.zeros(rows, 4)] for rows in (4, 20, 19))
    assert program.choose(one)[0] == "few"
    program.drop_hopeless()
    # Until a size comes often it has the engine of the nearest one.
    assert [program(feeds) for feeds in (one, ten, ten, nine, ten, ten)] == ["few"] * 6
    assert not capsys.readouterr().err
    assert [program(feeds) for feeds in (ten, one, nine)] == ["many", "few", "many"]
    assert capsys.readouterr().err.splitlines() == [
        "measures few, many for inputs 20x4",
        "few: 2.1e+04 ms",
        "many: 7000 ms",
        "many is the fastest here, for inputs 20x4",
    ]


def test_the_choice_ends_early_for_programs_that_are_clearly_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = {"quick": 1.0, "near": 1.2, "slow": 2.0}
    now, passes = [0.0], dict.fromkeys(seconds, 0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def program(name: str) -> Callable[[Sequence[torch.Tensor]], None]:
        def run(feeds: Sequence[torch.Tensor]) -> None:
            now[0] += seconds[name]
            passes[name] += 1

        return run

    programs = {name: program(name) for name in seconds}
    found = timing.least_seconds(programs, [], seconds=1000)
    assert found == pytest.approx(seconds)
    every = 1 + timing.CHOICE_TURNS
    assert passes == {"quick": every, "near": every, "slow": 1 + timing.LEAST_TURNS}
    timing.least_seconds(programs, [], seconds=0)
    assert passes["quick"] == every + 1 + timing.LEAST_CHOICE_TURNS


def test_an_engine_whose_passes_fail_is_not_taken() -> None:
    class Broken(NamedProgram):
        def __call__(self, feeds: Sequence[torch.Tensor]) -> Any:
            raise RuntimeError("out of memory\nhere")

    broken = Broken("broken")
    program: Any = FastestProgram({"broken": broken, "works": NamedProgram("works")})
    best, lines = program.choose([torch.zeros(2, 4)])
    assert (best, lines[0]) == ("works", "broken: its passes fail")
    program.drop_hopeless()
    assert program([torch.zeros(3, 4)]) == "works"
    with pytest.raises(NetError, match=r"no engine runs the net with such inputs: out of memory$"):
        timing.least_seconds({"broken": broken}, [])


def test_no_engine_has_the_precision() -> None:
    with pytest.raises(NetError, match="no engine runs the net so"):
        built(SMALL).optimize("fastest", precision="int8")


def test_turns_are_taken_by_all_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_BURST", 0)
    order: list[str] = []

    def work(name: str) -> Callable[[], object]:
        return lambda: order.append(name)

    times = timing.turns({"a": work("a"), "b": work("b")}, least=3, seconds=0)
    # The turn that does not count, then forth, back, and forth.
    assert order == ["a", "b", "b", "a", "b", "a", "b", "a"]
    assert {name: len(each) for name, each in times.items()} == {"a": 3, "b": 3}
    own: Sequence[float] = timing.turns({"c": lambda: 1.5}, least=2, seconds=0)["c"]
    assert own == [1.5, 1.5]
    nothing: dict[str, Callable[[], object]] = {}
    assert timing.turns(nothing) == {}


def test_the_last_of_several_passes_counts_and_in_a_choice_the_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timing.time, "sleep", lambda seconds: None)
    # The pass that does not count, then two turns: 20 ms are over after the third pass of each.
    seconds = [0.5, 0.009, 0.004, 0.008, 0.012, 0.005, 0.007]
    left: list[float] = []

    def run(*_: object) -> None:
        now[0] += left.pop(0)

    left[:] = seconds
    assert timing.turns({"a": run}, least=2, most=2, clock=timing.time.perf_counter) == {
        "a": pytest.approx([0.008, 0.007])
    }
    left[:] = seconds
    monkeypatch.setattr(timing, "CHOICE_TURNS", 2)
    assert timing.least_seconds({"a": run}, []) == {"a": pytest.approx(0.004)}


def test_example_inputs_have_the_stated_shapes() -> None:
    subject = net(net_text(SHAPE, *SMALL))
    (plain,) = timing.example_feeds(subject)
    (stated,) = timing.example_feeds(subject, {"data": (5, 4, 9, 7)})
    assert plain.shape == SHAPE
    assert stated.shape == (5, 4, 9, 7)


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
