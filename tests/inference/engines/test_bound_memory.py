"""Passes of ONNX Runtime and OpenVINO whose inputs and outputs stay bound to the model."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.errors import LayerError, NetError
from caffecompat.inference.comparison import ComparisonOptions, compare
from caffecompat.inference.onnx_model.export import onnx_model
from caffecompat.net.execution.inference import InferenceOptions
from tests.export.passes.models import net_text
from tests.inference.engine_nets import LAYERS, SHAPE, assert_near, built, conv, simple
from tests.inference.small_net import SMALL
from tests.net.nets import net

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

from caffecompat.inference.engines import onnxruntime, openvino
from caffecompat.inference.onnx_model.bound_memory import BoundInputs

BOUND = 1e-5
OTHER_SHAPES = [(3, 4, 11, 8), SHAPE, (1, 4, 6, 13), SHAPE]


def values(shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["onnxruntime", "openvino"])
def name(request: pytest.FixtureRequest) -> str:
    """An engine."""
    return str(request.param)


def bound(engine: str, layers: list[str] = SMALL, **options: Any) -> Net:
    return optimized(built(layers), engine, **options)


def optimized(subject: Net, engine: str, **options: Any) -> Net:
    made = subject.optimize(engine, large_pages=False, **options)
    assert made is not None
    assert made.engine == engine
    return subject


@pytest.fixture
def bindings(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Each input that is bound."""
    found: list[torch.Tensor] = []

    class Noted(BoundInputs):
        def __init__(self, bind: Callable[[int, torch.Tensor], None], count: int) -> None:
            def noted(index: int, feed: torch.Tensor) -> None:
                found.append(feed)
                bind(index, feed)

            super().__init__(noted, count)

    for module in (onnxruntime, openvino):
        monkeypatch.setattr(module, "BoundInputs", Noted)
    return found


@pytest.mark.parametrize("layers", ["residual", "lrn", "inner products", "modules"])
def test_the_outputs_are_those_of_calls_that_bind_anew(
    name: str, layers: str, bindings: list[torch.Tensor]
) -> None:
    given = values(SHAPE)
    own, once = built(LAYERS[layers]), bound(name, LAYERS[layers])
    wanted = own.forward(data=given)
    own.optimize(name, bind=False, large_pages=False)
    anew = own.forward(data=given)
    assert bindings == []
    for _ in range(3):
        found = once.forward(data=given)
        assert_near(found, wanted, BOUND)
        assert_near(found, anew, 0)
    assert len(bindings) == 1


def test_inputs_in_the_same_memory_are_bound_once(name: str, bindings: list[torch.Tensor]) -> None:
    own, subject = built(SMALL), bound(name)
    given = values(SHAPE)
    for seed in range(3):
        given.copy_(values(SHAPE, seed))
        assert_near(subject.forward(data=given), own.forward(data=given), BOUND)
    assert len(bindings) == 1
    for seed in range(3):
        other = values(SHAPE, seed)
        assert_near(subject.forward(data=other), own.forward(data=other), BOUND)
    array = given.numpy()
    array[...] = 2
    wanted = {"f": torch.from_numpy(own.forward(data=array)["f"])}
    assert_near({"f": torch.from_numpy(subject.forward(data=array)["f"])}, wanted, BOUND)


def test_memory_that_moves_is_bound_again(name: str) -> None:
    own, subject = built(SMALL), bound(name)
    given = values(SHAPE)
    subject.forward(data=given)
    given.data = values(SHAPE, 1)
    assert_near(subject.forward(data=given), own.forward(data=given), BOUND)


@pytest.mark.parametrize(
    "changed",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.double(),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: x.clone().requires_grad_(),
        lambda x: np.asfortranarray(x.numpy()),
    ],
    ids=["channels last", "double", "transposed", "gradient", "Fortran"],
)
def test_inputs_that_are_no_gapless_single_precision(name: str, changed: Any) -> None:
    own, subject = built(SMALL), bound(name)
    for seed in range(3):
        given = changed(values(SHAPE, seed))
        wanted = own.forward(data=given)["f"]
        found = subject.forward(data=given)["f"]
        assert_near({"f": torch.as_tensor(found)}, {"f": torch.as_tensor(wanted).detach()}, BOUND)


@pytest.mark.parametrize("times", [1, 3])
def test_sizes_that_change_and_come_again(name: str, times: int) -> None:
    own, subject = built(LAYERS["residual"]), bound(name, LAYERS["residual"])
    given = [values(shape, seed) for seed, shape in enumerate(OTHER_SHAPES)]
    for value in [*given, *given]:
        wanted = own.forward(data=value)
        for _ in range(times):
            assert_near(subject.forward(data=value), wanted, BOUND)


def test_openvino_keeps_what_is_bound_for_each_size(bindings: list[torch.Tensor]) -> None:
    subject = bound("openvino", LAYERS["residual"])
    given = [values(shape, seed) for seed, shape in enumerate(OTHER_SHAPES)]
    for value in [*given, *given]:
        subject.forward(data=value)
    # Of the four inputs two have one shape, and follow each other in one request.
    assert len(bindings) == 6


def test_outputs_that_are_kept(name: str) -> None:
    own, subject = built(SMALL), bound(name)
    given = [values(SHAPE, seed) for seed in range(5)]
    kept = [subject.forward(data=value) for value in given]
    for value, found in zip(given, kept, strict=True):
        assert_near(found, own.forward(data=value), BOUND)


def test_outputs_are_the_callers(name: str) -> None:
    subject = bound(name)
    given = values(SHAPE)
    first = subject.forward(data=given)["f"]
    kept = first.clone()
    second = subject.forward(data=2 * given)["f"]
    assert torch.equal(first, kept)
    assert not torch.equal(second, first)
    first.zero_()
    assert torch.equal(subject.forward(data=given)["f"], kept)
    array = subject.forward(data=given.numpy())["f"]
    subject.forward(data=2 * given)
    np.testing.assert_array_equal(array, kept)


def test_a_pass_that_fails_leaves_the_engine_usable(name: str) -> None:
    own, subject = built(SMALL), bound(name)
    given = values(SHAPE)
    subject.forward(data=given)
    with pytest.raises(LayerError, match="layer 'c'"):
        subject.forward(data=values((1, 5, 9, 7)))
    assert_near(subject.forward(data=given), own.forward(data=given), BOUND)


def test_ctrl_c_during_a_pass_leaves_the_engine_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = bound("openvino")
    given = values(SHAPE)
    wanted = subject.forward(data=given)["f"]
    program: Any = subject.optimization.program  # type: ignore[union-attr]
    (request,) = next(iter(program._run.__self__._requests.values()))

    class Interrupted:
        """A request whose first pass is interrupted."""

        def start_async(self) -> None:
            real.start_async()
            raise KeyboardInterrupt

        def wait(self) -> None:
            real.wait()

    real = request._request
    request._request = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        subject.forward(data=given)
    request._request = real
    assert torch.equal(subject.forward(data=given)["f"], wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_process_that_was_forked_is_refused() -> None:
    subject = bound("openvino")
    given = values(SHAPE)
    wanted = subject.forward(data=given)["f"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            subject.forward(data=given)
        except NetError as error:
            os._exit(0 if f"from which this one ({os.getpid()}) was forked" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(subject.forward(data=given)["f"], wanted)


def test_two_inputs_and_two_outputs(name: str) -> None:
    data = 'layer {{ name: "{0}" type: "Input" top: "{0}" input_param {{ shape {{ {1} }} }} }}'
    shape = "dim: 2 dim: 4 dim: 9 dim: 7"
    text = "\n".join(
        [
            *(data.format(name, shape) for name in ("data", "more")),
            f"layer {{ {conv('c', 'data')} }}",
            'layer { name: "s" type: "Eltwise" bottom: "data" bottom: "more" top: "s" }',
        ]
    )
    own, subject = net(text, seed=1), optimized(net(text, seed=1), name)
    for seed in range(3):
        given = {"data": values(SHAPE, seed), "more": values(SHAPE, seed + 5)}
        assert_near(subject.forward(**given), own.forward(**given), BOUND)
        # One memory for both.
        both = {"data": given["data"], "more": given["data"]}
        assert_near(subject.forward(**both), own.forward(**both), BOUND)


def test_outputs_that_are_not_in_single_precision(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "_is_plain", lambda port: False)
    monkeypatch.setattr(onnxruntime, "_is_bindable", lambda tensor: False)
    own, subject = built(SMALL), bound(name)
    for seed in range(2):
        given = values(SHAPE, seed)
        assert_near(subject.forward(data=given), own.forward(data=given), BOUND)


def test_ports_with_free_sizes_and_whole_numbers_are_not_plain() -> None:
    program: Any = pytest.importorskip("openvino")
    with onnx_model(net(net_text(SHAPE, *SMALL, simple("Softmax", "p", "f", "p")))) as model:
        free = program.Core().read_model(model.path.read_bytes())
    assert not openvino._is_plain(free.output(0))
    free.reshape({"data": list(SHAPE)})
    assert openvino._is_plain(free.output(0))
    whole = program.opset13.convert(free.output(0).node.input_value(0), "i32")
    assert not openvino._is_plain(whole.output(0))


def test_other_programs_of_a_comparison_bind_anew(name: str, bindings: list[torch.Tensor]) -> None:
    options = ComparisonOptions(InferenceOptions(), turns=1, seconds=0)
    (found,) = compare(built(SMALL), [name], options)
    assert found.milliseconds is not None
    assert bindings == []


def test_inputs_that_are_outputs_too(name: str) -> None:
    """Memory that is bound to such an output would stay as it was."""
    inputs = 'name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 3 } }'
    layers = [inputs, simple("ReLU", "r", "a", "y"), simple("Dropout", "d", "b")]
    subject = net("\n".join(f"layer {{ {layer} }}" for layer in layers))
    optimized(subject, name)
    for seed in range(3):
        a, b = values((2, 3), seed), values((2, 3), seed + 7)
        assert_near(subject.forward(a=a, b=b), {"y": a.relu(), "b": b}, 0)
