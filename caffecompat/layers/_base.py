"""The contract between a layer type and the nets that use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias

from caffecompat.errors import LayerError
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._context import Context
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._receptive_field import ReceptiveField
from caffecompat.proto.schema import FORK_NUMBERS, new
from caffecompat.registry import Registry
from caffecompat.reporting.units import format_shape as format_shape
from caffecompat.weights.blob import MAX_AXES

if TYPE_CHECKING:
    import numpy as np
    import torch

    from caffecompat.layers._counter_rng import Noise

    Array: TypeAlias = np.ndarray | torch.Tensor

# No blob of Caffe's may be larger than 2^31 values; this is what no memory holds.
MOST_VALUES = 2**42

CHANNEL_AXIS = 1
ALONG_BATCH = "works along the first axis of the batch"

Shape: TypeAlias = tuple[int, ...]
Message: TypeAlias = Any

catalogue: Registry[type[Layer]] = Registry("layer type", "caffecompat.layers")


@dataclass(frozen=True)
class Count:
    """How many bottoms or tops a layer takes; ``max`` None means any number."""

    min: int
    max: int | None

    def admits(self, number: int) -> bool:
        return self.min <= number and (self.max is None or number <= self.max)

    def __str__(self) -> str:
        if self.max is None:
            return f"at least {self.min}"
        return str(self.min) if self.min == self.max else f"{self.min} to {self.max}"


def exactly(number: int) -> Count:
    return Count(number, number)


def at_least(number: int) -> Count:
    return Count(number, None)


def between(lowest: int, highest: int) -> Count:
    return Count(lowest, highest)


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter blob of a layer: its name in torch, its shape, how it is filled.

    ``filler`` is a FillerParameter message; ``values``, where given, are used instead. ``learned``
    False marks statistics that the forward pass updates itself (BatchNorm): they never get a
    gradient.
    """

    name: str
    shape: Shape
    filler: Message
    learned: bool = True
    values: np.ndarray | None = None


def register(name: str) -> Callable[[type[Layer]], type[Layer]]:
    """Class decorator that enters a :class:`Layer` under Caffe's type name."""

    def enter(layer: type[Layer]) -> type[Layer]:
        layer.type = name
        return catalogue.register(name)(layer)

    return enter


class Layer:
    """A layer type: its bottoms and tops, its parameters, its forward pass.

    A subclass fills in three things and never touches files, devices, names of blobs or sharing:

    - the class attributes below,
    - :meth:`setup`, which runs once: read the definition, refuse what Caffe refuses, declare
      parameters. Only parameter shapes may be derived from the bottoms' shapes here;
    - :meth:`forward`, differentiable torch code that reads all other shapes from its arguments,
      so that inputs can be resized at any time. It also runs once on ``meta`` tensors when the
      net is built; that is how top shapes are known, so no shape formula is written twice.

    Attributes:
        type: Caffe's name, set by :func:`register`.
        bottoms, tops: how many of each the layer takes.
        parameters: names of the parameter blobs in Caffe's order; torch keys are ``layer.name``.
        can_be_set_back: after a forward pass everything that it has changed is in buffers or in
            ``state``, so that a pass can be left in its middle without a trace.
        is_loss: the first top has loss weight 1 unless the definition gives another.
        automatic_top: a missing top is added without a name (loss layers may have no ``top``).
        in_place: a top may have the name of the bottom at its position.
        forces_input_gradients: net inputs below it get gradients whenever it runs backward, asked
            for or not (Caffe's recurrent layers).
        param_fields: fields of LayerParameter with its settings, beside the one named after the
            type.
        fork_fields: fields of forks that the type understands, e.g. ``"pooling_param.ceil_mode"``;
            a net that sets any other is refused, because its meaning would be lost.
        ignored_fields: fields that Caffe reads and never uses, e.g. ``"data_param.mirror"``; a net
            that sets one gets a note.
        noise: the layer's random numbers, put here by the net before the first pass.
        checks_blobs: values embedded in the prototxt (``blobs``) must have the parameter's shape;
            Caffe's other types take them in their order.
        differentiable: per bottom, whether a gradient can reach it; the last entry holds for all
            further bottoms.
        pointwise: an element of a top depends on the same place of the bottoms alone (and on other
            channels), so that receptive fields stay as they are; see :meth:`receptive_field`.
        prefers_channels_last: on a GPU in 16 bits it is faster with channels innermost in memory.
        imports_code: :meth:`setup` runs code that the definition names, so that the net's user
            must allow it and a net is not built for a look at its shapes.

    What concerns the samples of a batch is said by three more, of the class, or of the layer where
    :meth:`setup` sets them:

        batch_coupling: what makes the rows of a batch depend on each other, or on the size of the
            batch, as the rest of a sentence about the layer that ends with the batch: ``"takes its
            statistics from the whole batch"``. The users of several ranks and of
            ``--auto-iter-size`` are told.
        loss_reduction: how the first top, a loss, comes from the samples. On several ranks the
            loss of a type with :attr:`is_loss` that does not say it is taken for a mean over the
            batch, and the user is told. None for layers without a loss.
        class_labels: which labels a bottom may hold; None where no bottom holds labels.
    """

    type: ClassVar[str] = ""
    bottoms: ClassVar[Count] = exactly(1)
    tops: ClassVar[Count] = exactly(1)
    parameters: ClassVar[tuple[str, ...]] = ()
    can_be_set_back: ClassVar[bool] = True
    is_loss: ClassVar[bool] = False
    automatic_top: ClassVar[bool] = False
    in_place: ClassVar[bool] = True
    differentiable: ClassVar[tuple[bool, ...]] = (True,)
    forces_input_gradients: ClassVar[bool] = False
    param_fields: ClassVar[tuple[str, ...]] = ()
    fork_fields: ClassVar[tuple[str, ...]] = ()
    ignored_fields: ClassVar[tuple[str, ...]] = ()
    checks_blobs: ClassVar[bool] = False
    pointwise: ClassVar[bool] = False
    prefers_channels_last: ClassVar[bool] = False
    imports_code: ClassVar[bool] = False

    batch_coupling: str | None = None
    loss_reduction: LossReduction | None = None
    class_labels: ClassLabels | None = None

    noise: Noise

    def __init__(self, context: Context) -> None:
        self.context = context
        self.specs: list[ParameterSpec] = []
        self.notes: list[str] = []
        # Whether forward hands values on to the next pass by itself, which nothing replayed does.
        self.keeps_state = False

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        """Reads the LayerParameter ``message``; ``bottoms`` are the bottoms' shapes."""

    def forward(self, *bottoms: Any, **parameters: Any) -> Any:
        """Tops from bottoms: a tensor, or a tuple of tensors when there are several tops.

        Parameters come by the names given to :meth:`parameter`.
        """
        raise NotImplementedError

    def infer(self, *bottoms: Any, **parameters: Any) -> Any:
        """Tops as ``meta`` tensors, run once when the net is built.

        Overridden only by types whose top shapes depend on values (Filter).
        """
        return self.forward(*bottoms, **parameters)

    def parameter(
        self,
        name: str,
        shape: Sequence[int],
        filler: Message,
        learned: bool = True,
        values: np.ndarray | None = None,
    ) -> None:
        """Declares the next parameter blob (call in Caffe's blob order)."""
        self.check_size(shape, name)
        self.specs.append(ParameterSpec(name, tuple(shape), filler, learned, values))

    def check(self, condition: bool, sentence: str) -> None:
        """Raises :class:`LayerError` with the layer's place unless ``condition`` holds."""
        if not condition:
            self.refuse(sentence)

    def check_size(self, shape: Sequence[int], what: str) -> None:
        """Refuses shapes that no memory holds, before anything is allocated, or no blob."""
        self.check_axes(shape, what)
        self.check(
            prod(shape) <= MOST_VALUES,
            f"{what} is {format_shape(shape)}: {prod(shape):.3g} values, more than any memory "
            "holds (Caffe's own limit is 2147483647)",
        )

    def check_axes(self, shape: Sequence[int], what: str) -> None:
        """Refuses shapes with more axes than Caffe's blobs can have (kMaxBlobAxes)."""
        self.check(
            len(shape) <= MAX_AXES,
            f"{what} has {len(shape)} axes, at most {MAX_AXES} are allowed",
        )

    def note(self, sentence: str) -> None:
        """Something that the net's user should know, though it is no mistake."""
        self.notes.append(f"{self.context.place}: {sentence}")

    def refuse(self, sentence: str) -> NoReturn:
        raise LayerError(f"{self.context.place}: {sentence}")

    def axis(self, axis: int, shape: Sequence[int], field: str = "axis") -> int:
        """``axis`` counted from the front; negative values count from the end.

        Raises:
            LayerError: the shape has no such axis.
        """
        if not -len(shape) <= axis < len(shape):
            self.refuse(
                f"{field} is {axis}, but the bottom has {len(shape)} axes {format_shape(shape)}"
            )
        return axis % len(shape)

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Multiplications with a weight in one forward pass; 0 for types without products."""
        return 0

    def receptive_field(self, field: ReceptiveField) -> ReceptiveField | str:
        """What an element of the tops sees, from what one of the bottoms sees.

        Returns:
            The field, or why there is none, as the rest of a sentence about the layer.
        """
        if self.pointwise:
            return field
        return "it looks at whole maps or rearranges them, or its type does not say"

    @property
    def training(self) -> bool:
        return self.context.phase == "TRAIN"

    @classmethod
    def settings(cls) -> list[str]:
        """The fields of LayerParameter that the type reads, e.g. ``["pooling_param"]``.

        The one of its own name need not be listed in :attr:`param_fields`, but a fork's must be
        listed in :attr:`fork_fields`.
        """
        own = f"{cls.type.lower()}param"
        known = {name.partition(".")[0] for name in cls.fork_fields}
        fields = new("LayerParameter").DESCRIPTOR.fields
        named = [
            field.name
            for field in fields
            if field.name.replace("_", "") == own
            and (field.number not in FORK_NUMBERS or field.name in known)
        ]
        return [*named, *cls.param_fields]

    @classmethod
    def parameter_names(cls, count: int) -> list[str]:
        """Names for ``count`` parameter blobs; surplus ones are called by their index."""
        return [cls.parameters[i] if i < len(cls.parameters) else f"blob{i}" for i in range(count)]
