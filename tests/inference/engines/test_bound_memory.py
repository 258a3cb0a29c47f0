"""Passes of OpenVINO whose inputs and outputs stay bound to the compiled model."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Sequence
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
pytest.importorskip("openvino")

from caffecompat.inference.engines import openvino as engine

BOUND = 1e-5
OTHER_SHAPES = [(3, 4, 11, 8), SHAPE, (1, 4, 6, 13), SHAPE]


def values(shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def bound(layers: list[str] = SMALL, **options: Any) -> Net:
    subject = built(layers)
    made = subject.optimize("openvino", large_pages=False, **options)
    assert made is not None
    assert made.engine == "openvino"
    return subject


@pytest.fixture
def bindings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The index of each input that is bound."""
    found: list[int] = []
    real = engine._Request._bind

    def noted(self: Any, index: int, feed: torch.Tensor) -> None:
        found.append(index)
        real(self, index, feed)

    monkeypatch.setattr(engine._Request, "_bind", noted)
    return found


@pytest.mark.parametrize("name", ["residual", "lrn", "inner products", "modules"])
def test_the_outputs_are_those_of_calls_that_bind_anew(name: str, bindings: list[int]) -> None:
    given = values(SHAPE)
    own, once = built(LAYERS[name]), bound(LAYERS[name])
    wanted = own.forward(data=given)
    own.optimize("openvino", bind=False, large_pages=False)
    anew = own.forward(data=given)
    assert bindings == []
    for _ in range(2):
        found = once.forward(data=given)
        assert_near(found, wanted, BOUND)
        assert_near(found, anew, 0)
    assert bindings == [0]


def test_inputs_in_the_same_memory_are_bound_once(bindings: list[int]) -> None:
    own, subject = built(SMALL), bound()
    given = values(SHAPE)
    for seed in range(3):
        given.copy_(values(SHAPE, seed))
        assert_near(subject.forward(data=given), own.forward(data=given), BOUND)
    assert bindings == [0]
    for seed in range(3):
        other = values(SHAPE, seed)
        assert_near(subject.forward(data=other), own.forward(data=other), BOUND)
    array = given.numpy()
    array[...] = 2
    wanted = {"f": torch.from_numpy(own.forward(data=array)["f"])}
    assert_near({"f": torch.from_numpy(subject.forward(data=array)["f"])}, wanted, BOUND)


def test_memory_that_moves_is_bound_again() -> None:
    own, subject = built(SMALL), bound()
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
def test_inputs_that_are_no_gapless_single_precision(changed: Any) -> None:
    own, subject = built(SMALL), bound()
    for seed in range(3):
        given = changed(values(SHAPE, seed))
        wanted = own.forward(data=given)["f"]
        found = subject.forward(data=given)["f"]
        assert_near({"f": torch.as_tensor(found)}, {"f": torch.as_tensor(wanted).detach()}, BOUND)


def test_sizes_that_change_and_come_again(bindings: list[int]) -> None:
    own, subject = built(LAYERS["residual"]), bound(LAYERS["residual"])
    given = [values(shape, seed) for seed, shape in enumerate(OTHER_SHAPES)]
    for value in [*given, *given]:
        assert_near(subject.forward(data=value), own.forward(data=value), BOUND)
    # Of the four inputs two have one shape, and follow each other in one request.
    assert len(bindings) == 6


def test_outputs_are_the_callers() -> None:
    subject = bound()
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


def test_a_pass_that_fails_leaves_the_engine_usable() -> None:
    own, subject = built(SMALL), bound()
    given = values(SHAPE)
    subject.forward(data=given)
    with pytest.raises(LayerError, match="layer 'c'"):
        subject.forward(data=values((1, 5, 9, 7)))
    assert_near(subject.forward(data=given), own.forward(data=given), BOUND)


def test_ctrl_c_during_a_pass_leaves_the_engine_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = bound()
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
    subject = bound()
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


def test_two_inputs_and_two_outputs() -> None:
    data = 'layer {{ name: "{0}" type: "Input" top: "{0}" input_param {{ shape {{ {1} }} }} }}'
    shape = "dim: 2 dim: 4 dim: 9 dim: 7"
    text = "\n".join(
        [
            *(data.format(name, shape) for name in ("data", "more")),
            f"layer {{ {conv('c', 'data')} }}",
            'layer { name: "s" type: "Eltwise" bottom: "data" bottom: "more" top: "s" }',
        ]
    )
    own, subject = net(text, seed=1), net(text, seed=1)
    made = subject.optimize("openvino", large_pages=False)
    assert made is not None
    assert made.engine == "openvino"
    for seed in range(3):
        given = {"data": values(SHAPE, seed), "more": values(SHAPE, seed + 5)}
        assert_near(subject.forward(**given), own.forward(**given), BOUND)
        # One memory for both.
        both = {"data": given["data"], "more": given["data"]}
        assert_near(subject.forward(**both), own.forward(**both), BOUND)


def test_outputs_that_are_not_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_is_plain", lambda port: False)
    own, subject = built(SMALL), bound()
    for seed in range(2):
        given = values(SHAPE, seed)
        assert_near(subject.forward(data=given), own.forward(data=given), BOUND)


def test_ports_with_free_sizes_and_whole_numbers_are_not_plain() -> None:
    openvino: Any = pytest.importorskip("openvino")
    with onnx_model(net(net_text(SHAPE, *SMALL, simple("Softmax", "p", "f", "p")))) as model:
        free = openvino.Core().read_model(model.path.read_bytes())
    assert not engine._is_plain(free.output(0))
    free.reshape({"data": list(SHAPE)})
    assert engine._is_plain(free.output(0))
    whole = openvino.opset13.convert(free.output(0).node.input_value(0), "i32")
    assert not engine._is_plain(whole.output(0))


def test_other_programs_of_a_comparison_bind_anew(bindings: list[int]) -> None:
    options = ComparisonOptions(InferenceOptions(), turns=1, seconds=0)
    (found,) = compare(built(SMALL), ["openvino"], options)
    assert found.milliseconds is not None
    assert bindings == []


def test_inputs_that_are_outputs_too() -> None:
    """Memory that is bound to such an output would stay as it was."""
    inputs = 'name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 3 } }'
    layers = [inputs, simple("ReLU", "r", "a", "y"), simple("Dropout", "d", "b")]
    subject = net("\n".join(f"layer {{ {layer} }}" for layer in layers))
    subject.optimize("openvino", large_pages=False)
    for seed in range(2):
        a, b = values((2, 3), seed), values((2, 3), seed + 7)
        assert_near(subject.forward(a=a, b=b), {"y": a.relu(), "b": b}, 0)
