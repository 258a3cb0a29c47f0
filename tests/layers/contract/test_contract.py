"""The contract of all layer types, and tests of their attributes, on small examples."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import CodeType, FrameType
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from caffecompat.data.shard import SampleRange
from caffecompat.errors import LayerError
from caffecompat.layers import Layer, ReceptiveField, Source, catalogue
from caffecompat.layers._counter_rng import Noise
from tests.layers.contract.drawn import drawn, on_examples, settings_of
from tests.layers.contract.prepared import DYNAMIC, bottoms_of, parameters_of, prepared
from tests.layers.examples import examples
from tests.layers.single import call
from tests.layers.strategies import ELSEWHERE, Example
from tests.modules import PACKAGE
from tests.net.shapes.checked import CheckedShapes

# Caffe's gradient is not the derivative; the recorded cases hold it instead.
INEXACT = {
    "MVN": "eps is left out of the derivative",
    "ContrastiveLoss": "1e-4 in the divisor",
    "CTCLoss": "the gradient of the sum over the streams",
    "DiceCoefLoss": "the gradient of the sum over the batch",
    "Upsample (SegNet)": "a value that another one has replaced gets a gradient too",
    "CenterLoss": "steps of centers",
    "MarginInnerProduct": "coefficients of norm 1",
    "GeneralContrastiveLoss": "the second top has none",
    "ConvolutionFixed": "passes through the rounding",
    "ConvolutionRistretto": "passes through the rounding",
    "DeconvolutionRistretto": "passes through the rounding",
    "EvenDistLoss": "one number for all elements",
    "FcRistretto": "passes through the rounding",
    "FixedNeuron": "passes through the rounding",
    "GeneralTripletLoss": "distances to the own class have a gradient of their own",
    "InnerProductFixed": "passes through the rounding",
    "LocallyConnectedWithLoss": "that of another loss",
    "UNPOOLING": "TILE divides it",
    "MinQuantizeLoss": "one number for all elements",
    "Resize (Wei Zhen)": "one of several elements, or by the factor's square",
    "TransformLoss": "weights are left out of the derivative",
}


# Operators that wait for the device and bring values to the host.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")

# A function of the package and a line in it.
Line = tuple[CodeType, int]


def test_every_type_has_examples() -> None:
    apart = {name for name in catalogue if issubclass(catalogue.find(name), Source)}
    own = {name for name in catalogue if catalogue.find(name).__module__.startswith("caffecompat")}
    missing = own - set(examples) - apart - set(ELSEWHERE)
    assert not missing, f"nothing in tests/layers/examples for: {', '.join(sorted(missing))}"


@on_examples()
def test_gradient_is_the_derivative(type_name: str, example: Example) -> None:
    if type_name in INEXACT:
        pytest.skip(INEXACT[type_name])
    layer = prepared(type_name, example)
    bottoms = bottoms_of(example, torch.float64)
    parameters = parameters_of(layer, torch.float64)
    count = len(bottoms)
    for i, bottom in enumerate(bottoms):
        smooth = example.bottoms[i].kind in ("values", "positive")
        reached = layer.differentiable[min(i, len(layer.differentiable) - 1)]
        bottom.requires_grad_(smooth and reached)
    for spec, parameter in zip(layer.specs, parameters, strict=True):
        parameter.requires_grad_(spec.learned)

    def differentiable_tops(*values: Tensor) -> tuple[Tensor, ...]:
        # Statistics and states change in each pass, so each has its own.
        given = [v if v.requires_grad else v.clone() for v in values[count:]]
        tops = call(prepared(type_name, example), values[:count], given)
        return tuple(top for top in tops if top.requires_grad and top.numel())

    inputs = (*bottoms, *parameters)
    if not differentiable_tops(*inputs):
        return
    assert torch.autograd.gradcheck(differentiable_tops, inputs, fast_mode=True)


@on_examples()
def test_shapes_on_meta_and_types_of_floats(type_name: str, example: Example) -> None:
    layer = prepared(type_name, example)
    shapes = []
    for dtype in (torch.float32, torch.float64):
        tops = call(layer, bottoms_of(example, dtype), parameters_of(layer, dtype))
        assert all(top.dtype == dtype for top in tops)
        shapes.append([top.shape for top in tops])
    meta = [b.to("meta") for b in bottoms_of(example, torch.float32)]
    parameters = [p.to("meta") for p in parameters_of(layer, torch.float32)]
    names = [spec.name for spec in layer.specs]
    with torch.no_grad(), CheckedShapes():
        inferred = layer.infer(*meta, **dict(zip(names, parameters, strict=True)))
    inferred = inferred if isinstance(inferred, tuple) else (inferred,)
    assert shapes[0] == shapes[1]
    assert type_name in DYNAMIC or [top.shape for top in inferred] == shapes[0]
    if layer.is_loss:
        assert shapes[0][0] == ()


class HostSyncWatch(TorchDispatchMode):
    """Collects the names of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


@on_examples()
def test_nothing_waits_for_the_device(type_name: str, example: Example) -> None:
    layer = prepared(type_name, example)
    bottoms = bottoms_of(example, torch.float32)
    parameters = parameters_of(layer, torch.float32)
    with HostSyncWatch() as watch:
        call(layer, bottoms, parameters)
    waiting = [n for n in watch.names if any(n.startswith(f"aten.{word}") for word in WAITING)]
    assert bool(waiting) == (type_name in DYNAMIC)


@on_examples()
def test_bottoms_stay_as_they_are(type_name: str, example: Example) -> None:
    layer = prepared(type_name, example)
    bottoms = bottoms_of(example, torch.float32)
    before = [bottom.clone() for bottom in bottoms]
    call(layer, bottoms, parameters_of(layer, torch.float32))
    assert all(torch.equal(a, b) for a, b in zip(before, bottoms, strict=True))


# After each compilation torch empties the processor's caches to time its guards: a fifth of all.
WITHOUT_GUARD_TIMES = patch(
    "torch._dynamo.guards.profile_guard_manager", lambda *_: 0.0, create=True
)


# torch's compiler records this warning of its own about an autograd.Function and drops it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("type_name", sorted(examples))
def test_compiles_in_one_piece(type_name: str) -> None:
    """Nothing in a forward pass breaks the graph that torch.compile takes.

    A compilation takes a quarter of a second, a hundred times as long as the pass. So an example
    is not compiled if its pass runs no line that has not been compiled for another one of the type.
    """
    if type_name in DYNAMIC:
        pytest.skip("shapes depend on values")
    passes = [plain_pass(type_name, example) for example in drawn(type_name, 2, True, settings_of)]
    compiled: set[Line] = set()
    for plain in sorted(passes, key=lambda plain: len(plain.lines), reverse=True):
        if not compiled or not plain.lines <= compiled:
            compiled |= plain.lines
            compiles_in_one_piece(type_name, plain)


@dataclass(frozen=True)
class PlainPass:
    """A forward pass without the compiler.

    ``results`` are the tops, and the parameters as they are after it. ``lines`` are those of the
    package that have run.
    """

    example: Example
    results: list[Tensor]
    lines: frozenset[Line]


def plain_pass(type_name: str, example: Example) -> PlainPass:
    layer = prepared(type_name, example)
    bottoms = bottoms_of(example, torch.float32)
    parameters = parameters_of(layer, torch.float32)
    with lines_run() as lines:
        tops = call(layer, bottoms, parameters)
    return PlainPass(example, [*tops, *parameters], frozenset(lines))


def compiles_in_one_piece(type_name: str, plain: PlainPass) -> None:
    layer = prepared(type_name, plain.example)
    bottoms = bottoms_of(plain.example, torch.float32)
    parameters = parameters_of(layer, torch.float32)
    names = [spec.name for spec in layer.specs]
    torch._dynamo.reset()
    forward = torch.compile(layer.forward, backend="eager", fullgraph=True)
    with WITHOUT_GUARD_TIMES, collecting_later():
        tops = forward(*bottoms, **dict(zip(names, parameters, strict=True)))
    found = [*(tops if isinstance(tops, tuple) else (tops,)), *parameters]
    same = all(torch.equal(a, b) for a, b in zip(plain.results, found, strict=True))
    assert same, f"{type_name}, {plain.example}"


@contextmanager
def collecting_later() -> Iterator[None]:
    """Keeps the garbage collector from the many objects of a compilation while it makes them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def lines_run() -> Iterator[set[Line]]:
    """Collects the package's lines that run meanwhile."""
    lines: set[Line] = set()
    folder = str(PACKAGE)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(folder):
            return None
        if event == "line":
            lines.add((frame.f_code, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


def rows_alone(
    type_name: str, example: Example, rows: slice, bottoms: list[Tensor], parameters: list[Tensor]
) -> tuple[Layer, list[Tensor], list[Tensor]]:
    """A layer set up for some rows of the batch alone: the layer, its bottoms and its tops.

    A bottom without the batch's number of rows stays whole, as one that is read from a file.
    """
    count = len(bottoms[0])
    parts = [bottom[rows] if len(bottom) == count else bottom for bottom in bottoms]
    shapes = [
        replace(bottom, shape=tuple(part.shape))
        for bottom, part in zip(example.bottoms, parts, strict=True)
    ]
    layer = prepared(type_name, replace(example, bottoms=tuple(shapes)))
    share = SampleRange(rows.start, rows.stop - rows.start, count)
    layer.noise = Noise(7, "one", torch.zeros((), dtype=torch.int64), share)
    return layer, parts, call(layer, parts, [blob.clone() for blob in parameters])


def batch_of(example: Example) -> int:
    """The rows of an example whose bottoms can be cut along the first axis, else 0."""
    extents = [bottom.shape[0] for bottom in example.bottoms if bottom.shape]
    whole = len(extents) == len(example.bottoms) and len(set(extents)) == 1
    return extents[0] if extents and whole else 0


# Tops that are one number for the batch, and no loss.
METRICS = {"Accuracy", "LabelsequenceAccuracy"}


def kept_by(layer: Layer) -> dict[str, object]:
    """What a layer holds but its ``state``: values, and identities where they can change."""

    def frozen(value: Any) -> object:
        if isinstance(value, Tensor):
            return id(value), value._version
        if isinstance(value, (list, tuple)):
            return tuple(map(frozen, value))
        if isinstance(value, dict):
            return {key: frozen(one) for key, one in value.items()}
        plain = isinstance(value, (int, float, str, bytes, type(None)))
        return value if plain else id(value)

    return {name: frozen(value) for name, value in vars(layer).items() if name != "state"}


@on_examples(key=settings_of)
def test_a_pass_can_be_taken_back(type_name: str, example: Example) -> None:
    """It changes buffers and ``state`` alone; else the layer says that it cannot be restored."""
    layer = prepared(type_name, example)
    assert layer.can_be_restored
    before, state = kept_by(layer), getattr(layer, "state", None)
    call(layer, bottoms_of(example, torch.float32), parameters_of(layer, torch.float32))
    assert kept_by(layer) == before
    assert layer.keeps_state or getattr(layer, "state", None) is state


@on_examples()
def test_rows_depend_on_each_other_with_batch_coupling_alone(
    type_name: str, example: Example
) -> None:
    layer = prepared(type_name, example)
    apart = layer.batch_coupling is None and layer.loss_reduction is None
    count = batch_of(example)
    if not apart or count < 2 or type_name in METRICS:
        return
    bottoms = bottoms_of(example, torch.float64)
    parameters = parameters_of(layer, torch.float64)
    whole = call(layer, bottoms, parameters)
    cuts = [slice(0, 1), slice(1, count)]
    parts = [rows_alone(type_name, example, rows, bottoms, parameters)[2] for rows in cuts]
    for i, top in enumerate(whole):
        torch.testing.assert_close(torch.cat([tops[i] for tops in parts]), top)


@on_examples()
def test_losses_of_slices_make_that_of_the_batch(type_name: str, example: Example) -> None:
    """As on several ranks: a mean is multiplied by the slice's part of what it is divided by."""
    layer = prepared(type_name, example)
    reduction = layer.loss_reduction
    if reduction is None:
        assert not layer.is_loss, "a loss type says how its loss is reduced"
        return
    assert reduction.kind in ("mean", "sum")
    count = example.bottoms[0].shape[0]
    if count < 2 or layer.batch_coupling is not None:
        return
    bottoms = bottoms_of(example, torch.float64)
    parameters = parameters_of(layer, torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for rows in (slice(0, 1), slice(1, count)):
        _, parts, tops = rows_alone(type_name, example, rows, bottoms, parameters)
        factor = torch.tensor((rows.stop - rows.start) / count, dtype=torch.float64)
        if reduction.kind == "sum":
            factor = torch.ones(())
        elif reduction.count is not None:
            own, whole = reduction.count(parts), reduction.count(bottoms)
            factor = own.clamp(min=1) / whole.clamp(min=1)
        total += tops[0] * factor
    torch.testing.assert_close(total, call(layer, bottoms, parameters)[0])


@on_examples()
def test_labels_beyond_the_classes_are_refused(type_name: str, example: Example) -> None:
    layer = prepared(type_name, example)
    labelled = [i for i, bottom in enumerate(example.bottoms) if bottom.kind == "labels"]
    accepted = layer.class_labels
    if accepted is None:
        assert type_name in INDICES or not labelled
        return
    assert accepted.bottom in labelled
    bottoms = bottoms_of(example, torch.float32)
    call(layer, bottoms, parameters_of(layer, torch.float32))
    bottoms[accepted.bottom].fill_(accepted.classes)
    if accepted.ignored != accepted.classes and bottoms[accepted.bottom].numel():
        with pytest.raises(LayerError, match=f"outside 0 to {accepted.classes - 1}"):
            call(layer, bottoms, parameters_of(layer, torch.float32))


# Bottoms of whole numbers that are no labels.
INDICES = {"BatchReindex", "Embed", "Upsample (SegNet)"}


@on_examples()
def test_receptive_fields_hold_every_dependency(type_name: str, example: Example) -> None:
    """No element of a top depends on more of the bottom's plane than the layer says."""
    layer = prepared(type_name, example)
    if not example.bottoms or len(example.bottoms[0].shape) != 4 or layer.batch_coupling:
        return
    field = layer.receptive_field(ReceptiveField.of_input(2))
    if isinstance(field, str):
        assert field.startswith("it")
        return
    bottoms = bottoms_of(example, torch.float64)
    bottoms[0].requires_grad_(example.bottoms[0].kind in ("values", "positive"))
    for top in call(layer, bottoms, parameters_of(layer, torch.float64)):
        if not top.requires_grad or not top.numel() or top.dim() != 4:
            continue
        seen = torch.zeros_like(top)
        middle = tuple(extent // 2 for extent in top.shape)
        seen[middle] = 1
        (gradient,) = torch.autograd.grad(top, bottoms[0], seen, retain_graph=True)
        touched = gradient[:, :].abs().sum((0, 1)).nonzero()
        if len(touched):
            extents = touched.amax(0) - touched.amin(0) + 1
            assert all(e <= size for e, size in zip(extents.tolist(), field.size, strict=True))
