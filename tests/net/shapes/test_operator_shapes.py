"""Shape rules beside torch's own kernels for ``meta`` tensors, and what they save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from caffecompat import Net
from caffecompat.net.shapes import top_shapes
from caffecompat.net.shapes.operator_shapes import RULES, OperatorShapes
from tests.net.shapes.checked import CheckedShapes, described
from tests.net.shapes.common_types import COMMON
from tests.places import REPOSITORY
from tests.programs import run_program

aten = torch.ops.aten
draws = st.data()

small = st.integers(0, 4)
extents = st.lists(st.integers(1, 5), max_size=4)


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def hold_equal(operator: Any, *args: Any, **kwargs: Any) -> None:
    """What torch refuses has no answer of a rule; any other answer is torch's."""
    answer = OperatorShapes.answer(operator, args, kwargs)
    try:
        expected = operator(*args, **kwargs)
    except (RuntimeError, IndexError, ValueError, ZeroDivisionError, AssertionError):
        assert answer is None, f"torch refuses {operator}{args}"
        return
    if answer is not None:
        assert described(answer) == described(expected), f"{operator}{args}"


@pytest.mark.parametrize("name", sorted(RULES))
def test_operators_exist(name: str) -> None:
    packet, _, overload = name.removeprefix("aten::").partition(".")
    operator = getattr(getattr(aten, packet), overload or "default")
    assert operator.name() == name


@given(draws)
def test_convolution(data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, 3))
    groups = data.draw(st.integers(1, 2))
    transposed = data.draw(st.booleans())
    sizes = st.lists(st.integers(1, 7), min_size=axes, max_size=axes)
    steps = st.lists(st.integers(1, 3), min_size=axes, max_size=axes)
    rows, columns, channels = (data.draw(st.sampled_from([2, 4])) for _ in range(3))
    if data.draw(st.booleans()):
        channels = rows if transposed else columns * groups
    outputs = columns * groups if transposed else rows
    bias = data.draw(st.sampled_from([None, meta(outputs), meta(3)]))
    pads = data.draw(st.lists(small, min_size=axes, max_size=axes))
    more = data.draw(st.lists(st.integers(0, 1), min_size=axes, max_size=axes))
    x = meta(2, channels, *data.draw(sizes))
    weight = meta(rows, columns, *data.draw(sizes))
    settings = (data.draw(steps), pads, data.draw(steps), transposed, more, groups)
    hold_equal(aten.convolution.default, x, weight, bias, *settings)


def test_convolution_has_an_answer() -> None:
    settings = ([2, 1], [0, 1], [1, 1], False, [0, 0], 2)
    arguments = (meta(3, 4, 9, 8), meta(6, 2, 5, 3), meta(6), *settings)
    answer = OperatorShapes.answer(aten.convolution.default, arguments, {})
    assert answer.shape == (3, 6, 3, 8)


@given(draws)
def test_pooling(data: st.DataObject) -> None:
    pair = st.lists(st.integers(1, 4), min_size=1, max_size=2)
    kernel, stride = data.draw(pair), data.draw(st.one_of(pair, st.just([])))
    padding = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=2))
    x = meta(*data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=4)))
    if data.draw(st.booleans()):
        x = x.transpose(-1, -2)
    ceil = data.draw(st.booleans())
    dilation = data.draw(pair)
    hold_equal(aten.avg_pool2d.default, x, kernel, stride, padding, ceil)
    hold_equal(aten.max_pool2d_with_indices.default, x, kernel, stride, padding, dilation, ceil)


@given(draws)
def test_pairs_of_operands(data: st.DataObject) -> None:
    types = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.int64, torch.bool])
    shape = data.draw(extents)
    other = [data.draw(st.sampled_from([1, extent, 3])) for extent in shape]
    a = meta(*shape, dtype=data.draw(types))
    b = meta(*other[data.draw(st.integers(0, len(shape))) :], dtype=data.draw(types))
    if len(shape) > 1 and data.draw(st.booleans()):
        a = a.transpose(0, 1)
    operand = data.draw(st.sampled_from([b, 2, 0.5]))
    for name in ("add", "sub", "mul", "div", "add_", "mul_"):
        hold_equal(getattr(aten, name).Tensor, a, operand)
    overload = "Tensor" if operand is b else "Scalar"
    for name in ("eq", "lt", "bitwise_and", "__rshift__"):
        hold_equal(getattr(getattr(aten, name), overload), a, operand)
    for mode in ("floor", "trunc", None):
        hold_equal(aten.div.Tensor_mode, a, operand, rounding_mode=mode)
    for number in (2, 0.5):
        for name in ("clamp", "remainder", "rsub", "pow"):
            packet = getattr(aten, name)
            overload = {"clamp": "default", "pow": "Tensor_Scalar"}.get(name, "Scalar")
            hold_equal(getattr(packet, overload), a, number)
    hold_equal(aten.clamp.default, a, None, 1)
    hold_equal(aten.where.self, a, b, a)
    hold_equal(aten._prelu_kernel.default, a, b)
    hold_equal(aten.masked_fill.Scalar, a, b, 1)
    for function in (aten.relu.default, aten.exp.default, aten.zeros_like.default):
        hold_equal(function, a)
    hold_equal(aten.mse_loss.default, a, b, data.draw(st.integers(0, 2)))


@given(draws)
def test_axes(data: st.DataObject) -> None:
    x = meta(*data.draw(extents))
    dim = data.draw(st.integers(-3, 3))
    dims = data.draw(st.lists(st.integers(-3, 3), max_size=3))
    for reduction in (aten.sum.dim_IntList, aten.mean.dim, aten.amax.default):
        hold_equal(reduction, x, dims, data.draw(st.booleans()))
    hold_equal(aten.flip.default, x, dims)
    hold_equal(aten.repeat.default, x, [abs(n) for n in dims])
    hold_equal(aten._log_softmax.default, x, dim, False)
    hold_equal(aten.cumsum.default, x, dim)
    hold_equal(aten.sort.stable, x, stable=True, dim=dim)
    index = meta(*data.draw(extents), dtype=torch.int64)
    hold_equal(aten.gather.default, x, dim, index)
    hold_equal(aten.scatter.value, x, dim, index, 1)
    hold_equal(aten.scatter_add.default, x, dim, index, meta(*index.shape))


@given(draws)
def test_several_tensors(data: st.DataObject) -> None:
    shape = data.draw(extents)
    dim = data.draw(st.integers(-3, 3))
    varied = list(shape)
    if shape:
        varied[data.draw(st.integers(0, len(shape) - 1))] = data.draw(small)
    tensors = [meta(*shape), meta(*varied), meta(*data.draw(st.sampled_from([shape, [0]])))]
    hold_equal(aten.cat.default, tensors, dim)
    hold_equal(aten.stack.default, tensors[: data.draw(st.integers(1, 3))], dim)
    a, b, c, d = (data.draw(st.integers(1, 3)) for _ in range(4))
    hold_equal(aten.mm.default, meta(a, b), meta(c, d))
    hold_equal(
        aten.addmm.default, meta(data.draw(st.sampled_from([1, d, 5]))), meta(a, b), meta(b, d)
    )
    hold_equal(aten.bmm.default, meta(a, b, c), meta(a, c, d))
    hold_equal(aten.embedding.default, meta(a, b), meta(c, d, dtype=torch.int64))


@given(st.lists(st.integers(-2, 9), min_size=1, max_size=3), st.sampled_from([None, torch.float32]))
def test_arange(limits: list[int], dtype: torch.dtype | None) -> None:
    operator = (aten.arange.default, aten.arange.start, aten.arange.start_step)[len(limits) - 1]
    hold_equal(operator, *limits, dtype=dtype, device=torch.device("meta"))


def test_values_on_another_device_are_computed() -> None:
    with OperatorShapes():
        assert (torch.ones(2) + torch.ones(2)).tolist() == [2, 2]
        assert torch.arange(3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "path", ["prototxt/A-LRN_train_val.prototxt", "prototxt/D_deploy.prototxt"]
)
def test_rules_answer_for_nets(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_shapes, "OperatorShapes", CheckedShapes)
    net = Net(REPOSITORY / path, shapes_only=True, shapes={"data": (2, 3, 224, 224)})
    assert net.shape_of(net.layers[-1].tops[0])[-1:] in ((1000,), ())


ORDINARY_WORK = """
import sys
from caffecompat.cli.main import main
for verb in (["summary"], ["summary", "--phase", "TRAIN"], ["graph"]):
    assert main([verb[0], "net.prototxt", *verb[1:]]) == 0
assert main(["train", "--solver", "solver.prototxt"]) == 0
from caffecompat import Net, pycaffe
net = Net("net.prototxt")
net.forward()
net.backward(fc=net.blobs["fc"].data)
net = pycaffe.Net("net.prototxt", pycaffe.TEST)
net.forward()
net.backward()
names = ("sympy", "torch._dynamo", "torch._inductor", "onnx")
assert not [name for name in names if name in sys.modules]
"""


def test_ordinary_work_imports_no_compiler(tmp_path: Path) -> None:
    """A process that describes and trains a net does not pay for torch's compiler."""
    (tmp_path / "net.prototxt").write_text(COMMON)
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 2 test_iter: 1 '
        'test_interval: 1 snapshot_prefix: "small" solver_mode: CPU'
    )
    # It is a fork of a process that has imported all layers, which may not pay for it either.
    done = run_program(["-c", ORDINARY_WORK], tmp_path)
    assert done.returncode == 0, done.stderr
